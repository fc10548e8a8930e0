# Context60 with NACLIP as published (PAMR), OpenAI ViT-B/16.
_base_ = ["./naclip_vitb16_context60.py"]
model = dict(refiners=[dict(type="PAMR", iterations=10, dilations=(8, 16))])
