# ADE20K with CorrCLIPv2 without its bank, MetaCLIP ViT-B/16, DINOv3 ViT-B/16 and regions of SAM 2.
_base_ = ["../_base_/models/corrclipv2.py", "../_base_/datasets/ade20k.py", "../_base_/runtime/eval.py"]
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
    vocabulary=dict(file="ade20k"),
)
