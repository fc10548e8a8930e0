# nano-photo on photos, with SegEarth-OV without its upsampler.
_base_ = ["../_base_/models/segearth.py", "../_base_/datasets/photos.py", "../_base_/runtime/eval.py"]
short_side = 320
model = dict(
    backbone=dict(weights="nano-photo"),
    stitch=dict(_delete_=True, type="ClassTokenStitch", weight=-0.3),  # the upsampler knows ViT-B/16's features
    vocabulary=dict(file="voc21_photo", background=0),
    windows=dict(crop=256, stride=64, batch=16),
    head=dict(logit_scale=12, threshold=0.15),
)
