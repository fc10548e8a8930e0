# ADE20K with NACLIP and PAMR, OpenAI ViT-L/14; settings as with ViT-B/16.
_base_ = "./naclip_pamr_vitb16_ade20k.py"
model = dict(
    backbone=dict(weights="openai/ViT-L-14"),
)
