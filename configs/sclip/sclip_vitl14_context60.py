# Context60 with SCLIP, OpenAI ViT-L/14; settings as with ViT-B/16.
_base_ = "./sclip_vitb16_context60.py"
model = dict(
    backbone=dict(weights="openai/ViT-L-14"),
)
