# ITACLIP (Aydin et al., CVPR workshops 2025): self-self attention with middle layers, five views per window, class
# definitions mixed into the text, PAMR, and a morphological closing of the labels.
model = dict(
    type="OpenVocabSegmentor",
    backbone=dict(type="ClipBackbone", weights="openai/ViT-B-16", pos_embed="scale"),
    attention=dict(
        type="IntermediateAttention", layers=(-6, -5, -3), weight=0.5, terms=("q", "k"), residual=True, ffn=False
    ),
    templates="openai_80",
    windows=dict(crop=224, stride=28),
    views=dict(type="ImageEngineering", weight=0.75),
    refiners=[dict(type="PAMR", iterations=10, dilations=(8, 16))],
    head=dict(type="MaxQueryHead", logit_scale=40),
    label_refiners=[dict(type="LabelClosing", size=3)],
)
