# Cityscapes with RADSeg at high resolution, C-RADIOv3-B.
_base_ = ["../_base_/models/radseg.py", "../_base_/datasets/cityscapes.py", "../_base_/runtime/eval.py"]
short_side = 1344
model = dict(
    vocabulary=dict(file="cityscapes"),
)
