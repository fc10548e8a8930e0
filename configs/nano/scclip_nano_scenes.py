# nano on scenes, the embedded mini benchmark, with SC-CLIP.
_base_ = ["../_base_/models/scclip.py", "../_base_/datasets/scenes.py", "../_base_/runtime/eval.py"]
model = dict(
    backbone=dict(weights="nano"),
    attention=dict(similarity_layer=-2, late_layer=-4, multi_layers=(-4, -3, -2)),  # there are six blocks
    vocabulary=dict(file="{{ fileDirname }}/../../data/scenes/classes.txt"),
    windows=dict(crop=112, stride=56, batch=32),
)
