# VOC21 with ResCLIP over SCLIP, OpenAI ViT-B/16.
_base_ = ["./resclip_vitb16_voc21.py"]
model = dict(attention=dict(std=0, terms=("q", "k"), residual=True, ffn=True))
