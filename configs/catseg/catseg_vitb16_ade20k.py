# ADE20K-150 with CAT-Seg, base, OpenAI ViT-B/16: its words, its template, its windows.
_base_ = [
    "../_base_/trained/catseg.py",
    "../_base_/datasets/detectron2/ade20k.py",
    "../_base_/runtime/eval.py",
]
model = dict(
    vocabulary=dict(file="ade20k"),
)
