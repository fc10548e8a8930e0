# Context59 with SED, ConvNeXt-B.
_base_ = [
    "../_base_/trained/sed.py",
    "../_base_/datasets/detectron2/context59.py",
    "../_base_/runtime/eval.py",
]
model = dict(
    vocabulary=dict(file="context59"),
)
