# COCO-Stuff with Trident, LAION-2B ViT-H/14; settings as with ViT-B/16.
_base_ = "./trident_vitb16_coco_stuff.py"
model = dict(
    backbone=dict(weights="laion2b_s32b_b79k/ViT-H-14"),
    windows=dict(fit_multiple=14),
)
