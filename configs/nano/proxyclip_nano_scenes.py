# nano on scenes with ProxyCLIP: nano's guide (patch 8: a window of 112 px has 14 x 14 patches) leads nano's CLIP.
_base_ = ["../_base_/models/proxyclip.py", "../_base_/datasets/scenes.py", "../_base_/runtime/eval.py"]
model = dict(
    backbone=dict(weights="nano"),
    guide=dict(weights="nano_guide"),
    # The paper's gamma of 3 hardly tells the kept patches apart. An object here is 3 to 8 of CLIP's patches wide and
    # most of them show some ground too: 10 lets the purest decide (validation scenes: 55.6 instead of 49.4 mIoU).
    attention=dict(gamma=10.0),
    vocabulary=dict(file="{{ fileDirname }}/../../data/scenes/classes.txt"),
    windows=dict(crop=112, stride=37, batch=32),  # a third of the crop, as in the paper
)
