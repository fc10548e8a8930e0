# VOC20 (PAS-20) with SED, ConvNeXt-B.
_base_ = [
    "../_base_/trained/sed.py",
    "../_base_/datasets/detectron2/voc20.py",
    "../_base_/runtime/eval.py",
]
model = dict(
    vocabulary=dict(file="voc20_joined"),
)
