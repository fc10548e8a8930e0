# SAN, large: CLIP ViT-L/14 at 0.7 of the size.
_base_ = "./san.py"
model = dict(
    backbone=dict(weights="san/vit_large_14"),
    decoder=dict(
        weights="san/vit_large_14",
        split=18,
        clip_scale=0.7,
        fusion=((0, 0), (6, 1), (12, 2), (18, 3)),
    ),
)
