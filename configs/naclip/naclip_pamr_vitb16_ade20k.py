# ADE20K with NACLIP as published (PAMR), OpenAI ViT-B/16.
_base_ = ["./naclip_vitb16_ade20k.py"]
model = dict(refiners=[dict(type="PAMR", iterations=10, dilations=(8, 16))])
