# Context59 with SED, ConvNeXt-L.
_base_ = [
    "../_base_/trained/sed_large.py",
    "../_base_/datasets/detectron2/context59.py",
    "../_base_/runtime/eval.py",
]
model = dict(
    vocabulary=dict(file="context59"),
)
