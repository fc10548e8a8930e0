# nano-photo on photos, with ClearCLIP.
_base_ = ["../_base_/models/clearclip.py", "../_base_/datasets/photos.py", "../_base_/runtime/eval.py"]
short_side = 288
model = dict(
    backbone=dict(weights="nano-photo"),
    vocabulary=dict(file="voc21_photo", background=0),
    windows=dict(crop=256, stride=64, batch=16),
    head=dict(logit_scale=12, threshold=0.15),
)
