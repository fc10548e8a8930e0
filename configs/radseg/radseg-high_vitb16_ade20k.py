# ADE20K with RADSeg at high resolution, C-RADIOv3-B.
_base_ = ["../_base_/models/radseg.py", "../_base_/datasets/ade20k.py", "../_base_/runtime/eval.py"]
short_side = 672
model = dict(
    vocabulary=dict(file="ade20k"),
)
