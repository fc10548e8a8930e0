# COCO-Stuff with RADSeg at mid resolution, C-RADIOv3-B.
_base_ = ["../_base_/models/radseg.py", "../_base_/datasets/coco_stuff.py", "../_base_/runtime/eval.py"]
short_side = 448
model = dict(
    vocabulary=dict(file="coco_stuff"),
)
