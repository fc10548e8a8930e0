# nano-photo on photos, with SC-CLIP.
_base_ = ["../_base_/models/scclip.py", "../_base_/datasets/photos.py", "../_base_/runtime/eval.py"]
short_side = 320
model = dict(
    backbone=dict(weights="nano-photo"),
    attention=dict(similarity_layer=-1, late_layer=-2, multi_layers=(-2, -1)),  # there are three blocks
    vocabulary=dict(file="voc21_photo", background=0),
    windows=dict(crop=256, stride=64, batch=16),
    head=dict(logit_scale=12, threshold=0.15),
)
