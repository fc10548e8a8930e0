# ADE847 with SED with early rejection, ConvNeXt-B. SED averages a class's synonyms; here is the first.
_base_ = [
    "../_base_/trained/sed_fast.py",
    "../_base_/datasets/detectron2/ade847.py",
    "../_base_/runtime/eval.py",
]
model = dict(
    vocabulary=dict(file="ade847_first"),
)
