# ADE20K with Trident, OpenAI ViT-B/16, DINO ViT-B/16 and SAM ViT-B with prompt refinement.
_base_ = ["../_base_/models/trident.py", "../_base_/datasets/ade20k.py", "../_base_/runtime/eval.py"]
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
    vocabulary=dict(file="ade20k"),
    stitch=dict(cos_factor=1.2, keep_negative=False),
    label_refiners=[dict(type="SamPromptRefiner", coarse_threshold=0.05, iou_threshold=0.8, min_area=225)],
)
