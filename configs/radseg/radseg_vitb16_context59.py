# PASCAL Context without background with RADSeg at mid resolution, C-RADIOv3-B.
_base_ = ["../_base_/models/radseg.py", "../_base_/datasets/context59.py", "../_base_/runtime/eval.py"]
short_side = 576
model = dict(
    vocabulary=dict(file="context59"),
)
