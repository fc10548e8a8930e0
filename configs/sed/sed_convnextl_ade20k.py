# ADE20K with SED, ConvNeXt-L.
_base_ = [
    "../_base_/trained/sed_large.py",
    "../_base_/datasets/detectron2/ade20k.py",
    "../_base_/runtime/eval.py",
]
model = dict(
    vocabulary=dict(file="ade20k"),
)
