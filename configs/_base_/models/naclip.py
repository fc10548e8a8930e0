# NACLIP (Hajimiri et al., WACV 2025): k-k attention with a Gaussian neighbourhood, PAMR on the score maps.
model = dict(
    type="OpenVocabSegmentor",
    backbone=dict(type="ClipBackbone", weights="openai/ViT-B-16", pos_embed="scale"),
    attention=dict(type="NeighbourAttention", std=5.0, terms=("k",), residual=False, ffn=False),
    templates="openai_80",
    windows=dict(crop=224, stride=112),
    refiners=[dict(type="PAMR", iterations=10, dilations=(8, 16))],
    head=dict(type="MaxQueryHead", logit_scale=40),
)
