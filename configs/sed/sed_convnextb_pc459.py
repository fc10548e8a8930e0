# PC459 with SED, ConvNeXt-B.
_base_ = [
    "../_base_/trained/sed.py",
    "../_base_/datasets/detectron2/pc459.py",
    "../_base_/runtime/eval.py",
]
model = dict(
    vocabulary=dict(file="pc459_joined"),
)
