# VOC21 with CLIPer without diffusion, whole photo and sliding windows half and half, OpenAI ViT-B/16.
_base_ = ["./cliper_vitb16_voc21.py"]
model = dict(stitch=dict(slide=336, stride=112))
