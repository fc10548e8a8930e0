# ADE20K with ResCLIP over ClearCLIP, OpenAI ViT-B/16.
_base_ = ["./resclip_vitb16_ade20k.py"]
model = dict(attention=dict(std=0, terms=("q",)))
