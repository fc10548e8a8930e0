# ADE20K with SCLIP, OpenAI ViT-L/14; settings as with ViT-B/16.
_base_ = "./sclip_vitb16_ade20k.py"
model = dict(
    backbone=dict(weights="openai/ViT-L-14"),
)
