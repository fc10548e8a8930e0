# COCO-Stuff with Trident, OpenAI ViT-L/14; settings as with ViT-B/16.
_base_ = "./trident_vitb16_coco_stuff.py"
model = dict(
    backbone=dict(weights="openai/ViT-L-14"),
    windows=dict(fit_multiple=14),
)
