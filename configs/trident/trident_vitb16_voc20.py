# VOC20 with Trident, OpenAI ViT-B/16, DINO ViT-B/16 and SAM ViT-B with prompt refinement.
_base_ = ["../_base_/models/trident.py", "../_base_/datasets/voc20.py", "../_base_/runtime/eval.py"]
short_side = 336
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
    vocabulary=dict(file="voc20"),
    windows=dict(stride=112),
    stitch=dict(cos_factor=0.0, keep_negative=True),
)
