# VOC20 (PAS-20) with SED, ConvNeXt-L.
_base_ = [
    "../_base_/trained/sed_large.py",
    "../_base_/datasets/detectron2/voc20.py",
    "../_base_/runtime/eval.py",
]
model = dict(
    vocabulary=dict(file="voc20_joined"),
)
