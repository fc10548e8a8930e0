# VOC21 with MaskCLIP on the LAION-2B weights that CLIP-DINOiser uses (exact GELU).
_base_ = ["./maskclip_vitb16_voc21.py"]
model = dict(backbone=dict(weights="laion2b_s34b_b88k/ViT-B-16"))
