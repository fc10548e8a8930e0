# nano-photo on photos, with LPOSS+: the features of nano-photo's own stem make the graph.
_base_ = ["../_base_/models/lposs_plus.py", "../_base_/datasets/photos.py", "../_base_/runtime/eval.py"]
short_side = 320
model = dict(
    backbone=dict(weights="nano-photo"),
    guide=dict(_delete_=True, type="StemGuide", strides=(16, 32)),
    stitch=dict(neighbours=200, pixels=dict(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))),
    vocabulary=dict(file="voc21_photo", background=0),
    windows=dict(crop=256, stride=64, batch=16, pad_multiple=16),
)
