# Context59 with SED with early rejection, ConvNeXt-L.
_base_ = [
    "../_base_/trained/sed_fast_large.py",
    "../_base_/datasets/detectron2/context59.py",
    "../_base_/runtime/eval.py",
]
model = dict(
    vocabulary=dict(file="context59"),
)
