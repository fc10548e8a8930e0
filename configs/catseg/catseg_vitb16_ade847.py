# ADE20K-847 with CAT-Seg, base, OpenAI ViT-B/16: its words, its template, its windows.
_base_ = [
    "../_base_/trained/catseg.py",
    "../_base_/datasets/detectron2/ade847.py",
    "../_base_/runtime/eval.py",
]
model = dict(
    vocabulary=dict(file="ade847_first"),
)
