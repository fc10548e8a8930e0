# VOC21 with ProxyCLIP, OpenAI ViT-L/14; settings as with ViT-B/16.
_base_ = "./proxyclip_vitb16_voc21.py"
model = dict(
    backbone=dict(weights="openai/ViT-L-14"),
)
