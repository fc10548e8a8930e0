# nano-photo on photos, with MaskCLIP.
_base_ = ["../_base_/models/maskclip.py", "../_base_/datasets/photos.py", "../_base_/runtime/eval.py"]
short_side = 288
model = dict(
    backbone=dict(weights="nano-photo"),
    probability_scale=12,
    head=dict(threshold=0.15),
    vocabulary=dict(file="voc21_photo", background=0),
    windows=dict(crop=256, stride=64, batch=16),
)
