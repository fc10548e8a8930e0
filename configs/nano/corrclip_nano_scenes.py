# nano on scenes with CorrCLIP: attention inside SLIC superpixels, by nano's guide between them, a vote per region.
_base_ = ["../_base_/models/corrclip.py", "../_base_/datasets/scenes.py", "../_base_/runtime/eval.py"]
test_dataloader = dict(
    dataset=dict(
        pipeline=[dict(type="LoadImage"), dict(type="LoadMask"), dict(type="PackInputs", keys=("original",))],
    )
)
model = dict(
    backbone=dict(weights="nano"),
    guide=dict(weights="nano_guide"),
    # Not nano's SAM: its masks leak from one object into the next (24 validation scenes: 44.5 mIoU, with SLIC 55.4,
    # with the true masks 70.3).
    regions=dict(_delete_=True, type="SlicRegions", segments=40),
    vocabulary=dict(file="{{ fileDirname }}/../../data/scenes/classes.txt"),
    windows=dict(crop=112, stride=56, batch=32),
)
