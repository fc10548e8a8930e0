# nano-photo on photos, with ITACLIP (without texts beside the names).
_base_ = ["../_base_/models/itaclip.py", "../_base_/datasets/photos.py", "../_base_/runtime/eval.py"]
short_side = 288
model = dict(
    backbone=dict(weights="nano-photo"),
    attention=dict(layers=(-3, -2)),  # there are three blocks
    vocabulary=dict(file="voc21_photo", background=0),
    windows=dict(crop=256, stride=64, batch=16),
    head=dict(logit_scale=12, threshold=0.15),
)
