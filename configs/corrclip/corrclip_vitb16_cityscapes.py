# Cityscapes with CorrCLIP v1, MetaCLIP ViT-B/16, DINO ViT-B/8 and SAM regions.
_base_ = ["../_base_/models/corrclip.py", "../_base_/datasets/cityscapes.py", "../_base_/runtime/eval.py"]
short_side = 448
test_dataloader = dict(
    dataset=dict(
        pipeline=[
            dict(type="LoadImage"),
            dict(type="LoadMask"),
            dict(type="ResizeShortSide", short_side=short_side, max_long=2048),
            dict(type="PackInputs", keys=("original",)),
        ]
    )
)
model = dict(
    vocabulary=dict(file="cityscapes"),
    windows=dict(crop=224),
)
