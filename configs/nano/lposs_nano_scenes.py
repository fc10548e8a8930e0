# nano on scenes, the embedded mini benchmark, with LPOSS.
_base_ = ["../_base_/models/lposs.py", "../_base_/datasets/scenes.py", "../_base_/runtime/eval.py"]
model = dict(
    backbone=dict(weights="nano"),
    guide=dict(weights="nano_guide", feature="tokens"),
    stitch=dict(neighbours=200),
    vocabulary=dict(file="{{ fileDirname }}/../../data/scenes/classes.txt"),
    windows=dict(crop=112, stride=56, batch=32),
)
