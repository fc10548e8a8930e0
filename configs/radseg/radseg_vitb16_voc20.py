# VOC20 with RADSeg at mid resolution, C-RADIOv3-B.
_base_ = ["../_base_/models/radseg.py", "../_base_/datasets/voc20.py", "../_base_/runtime/eval.py"]
short_side = 336
model = dict(
    vocabulary=dict(file="voc20"),
    windows=dict(stride=112, fit_multiple=112),
)
