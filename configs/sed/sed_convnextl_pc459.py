# PC459 with SED, ConvNeXt-L.
_base_ = [
    "../_base_/trained/sed_large.py",
    "../_base_/datasets/detectron2/pc459.py",
    "../_base_/runtime/eval.py",
]
model = dict(
    vocabulary=dict(file="pc459_joined"),
)
