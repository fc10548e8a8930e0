# nano-photo on photos, with NACLIP (without PAMR).
_base_ = ["../_base_/models/naclip.py", "../_base_/datasets/photos.py", "../_base_/runtime/eval.py"]
short_side = 288
model = dict(
    backbone=dict(weights="nano-photo"),
    refiners=[],
    vocabulary=dict(file="voc21_photo", background=0),
    windows=dict(crop=256, stride=64, batch=16),
    head=dict(logit_scale=12, threshold=0.15),
)
