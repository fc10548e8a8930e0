# nano on scenes, the embedded mini benchmark, with NACLIP without PAMR (see naclip_pamr_nano_scenes.py).
_base_ = ["../_base_/models/naclip.py", "../_base_/datasets/scenes.py", "../_base_/runtime/eval.py"]
model = dict(
    backbone=dict(weights="nano"),
    vocabulary=dict(file="{{ fileDirname }}/../../data/scenes/classes.txt"),
    windows=dict(crop=112, stride=56, batch=32),
)
