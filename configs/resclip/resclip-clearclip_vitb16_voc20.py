# VOC20 with ResCLIP over ClearCLIP, OpenAI ViT-B/16.
_base_ = ["./resclip_vitb16_voc20.py"]
model = dict(attention=dict(std=0, terms=("q",)))
