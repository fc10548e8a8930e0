# VOC20 with NACLIP as published (PAMR), OpenAI ViT-B/16.
_base_ = ["./naclip_vitb16_voc20.py"]
model = dict(refiners=[dict(type="PAMR", iterations=10, dilations=(8, 16))])
