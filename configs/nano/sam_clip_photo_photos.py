# nano-photo on photos, with SAM + CLIP: masks of nano's SAM (of drawings), named by nano-photo.
_base_ = ["../_base_/models/sam_clip.py", "../_base_/datasets/photos.py", "../_base_/runtime/eval.py"]
short_side = 288
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
    backbone=dict(weights="nano-photo"),
    regions=dict(source=dict(weights="nano_sam", points_per_side=12, iou_threshold=0.6, stability_threshold=0.8)),
    region_encoder=dict(_delete_=True, type="MaskPooling"),
    attention=dict(type="NeighbourAttention", _delete_=True, std=5.0, terms=("k",), residual=False, ffn=False),
    vocabulary=dict(file="voc21_photo", background=0),
    windows=dict(crop=256, stride=64, batch=16),
    head=dict(logit_scale=12, threshold=0.15),
)
