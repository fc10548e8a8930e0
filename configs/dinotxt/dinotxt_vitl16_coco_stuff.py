# COCO-Stuff with dino.txt on DINOv3 ViT-L/16.
_base_ = ["../_base_/models/dinotxt.py", "../_base_/datasets/coco_stuff.py", "../_base_/runtime/eval.py"]
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
    vocabulary=dict(file="coco_stuff"),
)
