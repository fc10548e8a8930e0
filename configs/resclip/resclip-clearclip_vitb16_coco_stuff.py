# COCO-Stuff with ResCLIP over ClearCLIP, OpenAI ViT-B/16.
_base_ = ["./resclip_vitb16_coco_stuff.py"]
model = dict(attention=dict(std=0, terms=("q",)))
