# NACLIP (Hajimiri et al., WACV 2025) without its refinement: k-k attention with a Gaussian neighbourhood.
# As published, with PAMR: naclip_pamr.py.
model = dict(
    type="OpenVocabSegmentor",
    backbone=dict(type="ClipBackbone", weights="openai/ViT-B-16", pos_embed="scale"),
    attention=dict(type="NeighbourAttention", std=5.0, terms=("k",), residual=False, ffn=False),
    templates="openai_80",
    windows=dict(crop=224, stride=112),
    head=dict(type="MaxQueryHead", logit_scale=40),
)
