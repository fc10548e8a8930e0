# VOC20 (PAS-20) with CAT-Seg, large, OpenAI ViT-L/14 at 336 pixels: its words, its template, its windows.
_base_ = [
    "../_base_/trained/catseg_large.py",
    "../_base_/datasets/detectron2/voc20.py",
    "../_base_/runtime/eval.py",
]
model = dict(
    vocabulary=dict(file="voc20_joined"),
)
