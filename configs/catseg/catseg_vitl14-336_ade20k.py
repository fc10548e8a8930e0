# ADE20K-150 with CAT-Seg, large, OpenAI ViT-L/14 at 336 pixels: its words, its template, its windows.
_base_ = [
    "../_base_/trained/catseg_large.py",
    "../_base_/datasets/detectron2/ade20k.py",
    "../_base_/runtime/eval.py",
]
model = dict(
    vocabulary=dict(file="ade20k"),
)
