# nano on scenes, the embedded mini benchmark, with the text-based decomposition.
_base_ = ["../_base_/models/decomposition.py", "../_base_/datasets/scenes.py", "../_base_/runtime/eval.py"]
model = dict(
    backbone=dict(weights="nano"),
    vocabulary=dict(file="{{ fileDirname }}/../../data/scenes/classes.txt"),
)
