# VOC20 with RADSeg at high resolution, C-RADIOv3-B.
_base_ = ["../_base_/models/radseg.py", "../_base_/datasets/voc20.py", "../_base_/runtime/eval.py"]
short_side = 672
model = dict(
    vocabulary=dict(file="voc20"),
)
