# nano-photo on photos, with ProxyCLIP: the features of nano-photo's own stem are the guide.
_base_ = ["../_base_/models/proxyclip.py", "../_base_/datasets/photos.py", "../_base_/runtime/eval.py"]
short_side = 288
model = dict(
    backbone=dict(weights="nano-photo"),
    guide=dict(_delete_=True, type="StemGuide", strides=(8, 16, 32)),
    attention=dict(gamma=6),
    vocabulary=dict(file="voc21_photo", background=0),
    windows=dict(crop=256, stride=64, batch=16, pad_multiple=16),
    head=dict(logit_scale=12, threshold=0.15),
)
