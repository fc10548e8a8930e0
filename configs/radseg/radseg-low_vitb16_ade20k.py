# ADE20K with RADSeg at low resolution, C-RADIOv3-B.
_base_ = ["../_base_/models/radseg.py", "../_base_/datasets/ade20k.py", "../_base_/runtime/eval.py"]
short_side = 336
model = dict(
    vocabulary=dict(file="ade20k"),
    windows=dict(crop=224, stride=112, fit_multiple=112),
)
