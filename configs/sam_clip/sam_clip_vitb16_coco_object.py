# COCO-Object with SAM + CLIP: OpenAI ViT-B/16 on masked crops of SAM ViT-B's masks. No published setting: as on VOC21.
_base_ = ["../_base_/models/sam_clip.py", "../_base_/datasets/coco_object.py", "../_base_/runtime/eval.py"]
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
)
