# VOC, 39 background words (PAS-20b), with CAT-Seg, large, OpenAI ViT-L/14 at 336 pixels: its words, template, windows.
_base_ = [
    "../_base_/trained/catseg_large.py",
    "../_base_/datasets/detectron2/voc21.py",
    "../_base_/runtime/eval.py",
]
model = dict(
    vocabulary=dict(file="voc21_catseg", background=0),
)
