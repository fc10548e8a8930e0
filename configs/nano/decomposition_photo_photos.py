# nano-photo on photos, with the text-based decomposition.
_base_ = ["../_base_/models/decomposition.py", "../_base_/datasets/photos.py", "../_base_/runtime/eval.py"]
short_side = 288
model = dict(
    backbone=dict(weights="nano-photo"),
    attention=dict(layers=2),  # there are three blocks
    vocabulary=dict(file="voc21_photo", background=0),
)
