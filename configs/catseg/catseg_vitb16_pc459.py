# Pascal Context 459 (PC-459) with CAT-Seg, base, OpenAI ViT-B/16: its words, its template, its windows.
_base_ = [
    "../_base_/trained/catseg.py",
    "../_base_/datasets/detectron2/pc459.py",
    "../_base_/runtime/eval.py",
]
model = dict(
    vocabulary=dict(file="pc459_joined"),
)
