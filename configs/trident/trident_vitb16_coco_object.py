# COCO-Object with Trident, OpenAI ViT-B/16, DINO ViT-B/16 and SAM ViT-B with prompt refinement.
_base_ = ["../_base_/models/trident.py", "../_base_/datasets/coco_object.py", "../_base_/runtime/eval.py"]
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
    vocabulary=dict(file="coco_object", background=0),
    head=dict(threshold=0.25),
    label_refiners=[dict(type="SamPromptRefiner", coarse_threshold=0.25, iou_threshold=0.8, min_area=225)],
)
