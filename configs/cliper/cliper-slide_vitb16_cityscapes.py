# Cityscapes with CLIPer without diffusion, whole photo and sliding windows half and half, OpenAI ViT-B/16.
_base_ = ["./cliper_vitb16_cityscapes.py"]
model = dict(stitch=dict(slide=224, stride=112))
