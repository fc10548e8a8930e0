# nano on scenes, the embedded mini benchmark, with ResCLIP over NACLIP.
_base_ = ["../_base_/models/resclip.py", "../_base_/datasets/scenes.py", "../_base_/runtime/eval.py"]
model = dict(
    backbone=dict(weights="nano"),
    attention=dict(layers=(-4, -3)),  # there are six blocks
    vocabulary=dict(file="{{ fileDirname }}/../../data/scenes/classes.txt"),
    windows=dict(crop=112, stride=56, batch=32),
)
