# ResCLIP (Yang et al., CVPR 2025) over NACLIP: attention of middle layers, and a second pass led by a first one.
model = dict(
    type="OpenVocabSegmentor",
    backbone=dict(type="ClipBackbone", weights="openai/ViT-B-16", pos_embed="scale"),
    attention=dict(type="ResidualAttention", std=5.0, terms=("k",), strength=2.0),
    stitch=dict(type="FeedbackStitch", iterations=10, dilations=(8, 16)),
    templates="openai_80",
    windows=dict(crop=224, stride=112),
    head=dict(type="MaxQueryHead", logit_scale=40),
)
