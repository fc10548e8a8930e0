# nano on scenes, the embedded mini benchmark, with CLIPer.
_base_ = ["../_base_/models/cliper.py", "../_base_/datasets/scenes.py", "../_base_/runtime/eval.py"]
short_side = 224
test_dataloader = dict(
    dataset=dict(
        pipeline=[
            dict(type="LoadImage"),
            dict(type="LoadMask"),
            dict(type="ResizePIL", short_side=short_side, multiple_of=16),
            dict(type="PackInputs"),
        ]
    )
)
model = dict(
    backbone=dict(weights="nano"),
    vocabulary=dict(file="{{ fileDirname }}/../../data/scenes/classes.txt"),
    head=dict(threshold=0, background=None),
)
