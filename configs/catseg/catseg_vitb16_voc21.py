# VOC, 39 background words (PAS-20b), with CAT-Seg, base, OpenAI ViT-B/16: its words, template, windows.
_base_ = [
    "../_base_/trained/catseg.py",
    "../_base_/datasets/detectron2/voc21.py",
    "../_base_/runtime/eval.py",
]
model = dict(
    vocabulary=dict(file="voc21_catseg", background=0),
)
