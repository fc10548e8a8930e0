# DeCLIP, OpenAI ViT-B/16: as declip.py.
_base_ = "./declip.py"
model = dict(backbone=dict(weights="declip/ViT-B-16"), attention=dict(scaled=True))
