# nano on scenes with CorrCLIPv2 without a bank: SLIC superpixels, nano's guide over the whole photo between them.
_base_ = ["../_base_/models/corrclipv2.py", "../_base_/datasets/scenes.py", "../_base_/runtime/eval.py"]
test_dataloader = dict(
    dataset=dict(
        pipeline=[dict(type="LoadImage"), dict(type="LoadMask"), dict(type="PackInputs", keys=("original",))],
    )
)
model = dict(
    backbone=dict(weights="nano"),
    guide=dict(source=dict(weights="nano_guide")),
    regions=dict(_delete_=True, type="SlicRegions", segments=40),
    vocabulary=dict(file="{{ fileDirname }}/../../data/scenes/classes.txt"),
    windows=dict(crop=112, stride=56, batch=32),
)
