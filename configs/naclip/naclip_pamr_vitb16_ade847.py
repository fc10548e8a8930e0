# ADE847 with NACLIP as published (PAMR), OpenAI ViT-B/16. Not in the paper.
_base_ = ["./naclip_vitb16_ade847.py"]
model = dict(refiners=[dict(type="PAMR", iterations=10, dilations=(8, 16))])
