# Pascal Context 459 (PC-459) with CAT-Seg, large, OpenAI ViT-L/14 at 336 pixels: its words, its template, its windows.
_base_ = [
    "../_base_/trained/catseg_large.py",
    "../_base_/datasets/detectron2/pc459.py",
    "../_base_/runtime/eval.py",
]
model = dict(
    vocabulary=dict(file="pc459_joined"),
)
