# ADE20K with SED, ConvNeXt-B.
_base_ = [
    "../_base_/trained/sed.py",
    "../_base_/datasets/detectron2/ade20k.py",
    "../_base_/runtime/eval.py",
]
model = dict(
    vocabulary=dict(file="ade20k"),
)
