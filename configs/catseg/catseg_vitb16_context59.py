# Pascal Context 59 (PC-59) with CAT-Seg, base, OpenAI ViT-B/16: its words, its template, its windows.
_base_ = [
    "../_base_/trained/catseg.py",
    "../_base_/datasets/detectron2/context59.py",
    "../_base_/runtime/eval.py",
]
model = dict(
    vocabulary=dict(file="context59"),
)
