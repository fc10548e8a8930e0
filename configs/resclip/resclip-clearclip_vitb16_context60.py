# Context60 with ResCLIP over ClearCLIP, OpenAI ViT-B/16.
_base_ = ["./resclip_vitb16_context60.py"]
model = dict(attention=dict(std=0, terms=("q",)))
