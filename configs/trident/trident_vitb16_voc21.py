# VOC21 with Trident, OpenAI ViT-B/16, DINO ViT-B/16 and SAM ViT-B with prompt refinement.
_base_ = ["../_base_/models/trident.py", "../_base_/datasets/voc21.py", "../_base_/runtime/eval.py"]
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
    vocabulary=dict(file="voc21_proxyclip", background=0),
    head=dict(threshold=0.2),
)
