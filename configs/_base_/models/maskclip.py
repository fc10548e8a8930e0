# MaskCLIP (Zhou et al., ECCV 2022) as CLIP-DINOiser runs it: probabilities per patch, averaged over windows.
# The weights are the LAION ones (exact GELU); with OpenAI's the catalogue picks QuickGELU by itself.
model = dict(
    type="OpenVocabSegmentor",
    backbone=dict(type="ClipBackbone", weights="laion2b_s34b_b88k/ViT-B-16", pos_embed="size"),
    attention=dict(type="ValueAttention", residual=True, ffn=True),
    templates="openai_80",
    windows=dict(crop=448, stride=224),
    probability_scale=100,
    head=dict(type="MaxQueryHead", softmax=False),
)
