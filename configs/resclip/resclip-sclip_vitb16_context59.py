# Context59 with ResCLIP over SCLIP, OpenAI ViT-B/16.
_base_ = ["./resclip_vitb16_context59.py"]
model = dict(attention=dict(std=0, terms=("q", "k"), residual=True, ffn=True))
