# PASCAL Context without background with RADSeg+ at mid resolution, C-RADIOv3-B and SAM ViT-H's mask decoder.
_base_ = ["../_base_/models/radseg_plus.py", "../_base_/datasets/context59.py", "../_base_/runtime/eval.py"]
short_side = 576
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
    vocabulary=dict(file="context59"),
    label_refiners=[dict(type="SamPromptRefiner", coarse_threshold=0.15, iou_threshold=0.9, min_area=225)],
)
