# ADE20K with Trident, OpenAI ViT-L/14; settings as with ViT-B/16.
_base_ = "./trident_vitb16_ade20k.py"
model = dict(
    backbone=dict(weights="openai/ViT-L-14"),
    windows=dict(fit_multiple=14),
)
