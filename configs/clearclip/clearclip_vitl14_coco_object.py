# COCO-Object with ClearCLIP, OpenAI ViT-L/14; settings as with ViT-B/16.
_base_ = "./clearclip_vitb16_coco_object.py"
model = dict(
    backbone=dict(weights="openai/ViT-L-14"),
)
