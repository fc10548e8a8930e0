# PASCAL Context with background with dino.txt on DINOv3 ViT-L/16.
_base_ = ["../_base_/models/dinotxt.py", "../_base_/datasets/context60.py", "../_base_/runtime/eval.py"]
short_side = 512
test_dataloader = dict(
    dataset=dict(
        pipeline=[
            dict(type="LoadImage"),
            dict(type="LoadMask"),
            dict(type="ResizePIL", short_side=short_side),
            dict(type="PackInputs"),
        ]
    )
)
model = dict(
    vocabulary=dict(file="context60", background=0),
)
