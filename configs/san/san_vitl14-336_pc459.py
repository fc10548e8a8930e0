# PC459 with SAN, OpenAI ViT-L/14 at 336 pixels.
_base_ = [
    "../_base_/trained/san_large.py",
    "../_base_/datasets/detectron2/pc459.py",
    "../_base_/runtime/eval.py",
]
model = dict(
    vocabulary=dict(file="pc459_joined"),
)
