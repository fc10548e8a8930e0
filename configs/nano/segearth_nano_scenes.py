# nano on scenes, the embedded mini benchmark, with SegEarth-OV without its upsampler.
_base_ = ["../_base_/models/segearth.py", "../_base_/datasets/scenes.py", "../_base_/runtime/eval.py"]
model = dict(
    backbone=dict(weights="nano"),
    stitch=dict(_delete_=True, type="ClassTokenStitch", weight=-0.3),  # the upsampler knows ViT-B/16's features
    vocabulary=dict(file="{{ fileDirname }}/../../data/scenes/classes.txt"),
    windows=dict(crop=112, stride=56, batch=32),
)
