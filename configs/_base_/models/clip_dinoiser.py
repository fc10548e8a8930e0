# CLIP-DINOiser (Wysoczanska et al., ECCV 2024): MaskCLIP pooled by a correlation that trained heads read from CLIP.
# The released heads belong to the LAION weights (exact GELU). Background is placed where the vocabulary has one.
model = dict(
    type="OpenVocabSegmentor",
    backbone=dict(type="ClipBackbone", weights="laion2b_s34b_b88k/ViT-B-16", pos_embed="size"),
    attention=dict(type="DinoiserAttention", heads="clip_dinoiser/last", threshold=0.2, background=True),
    templates="openai_80",
    windows=dict(crop=448, stride=224, pad_multiple=16, pad_mode="end", pad_value="black"),
    probability_scale=100,
    head=dict(type="MaxQueryHead", softmax=False),
    supervision="CLIP: image-text pairs; CLIP-DINOiser heads: images only, taught by DINO and FOUND",
)
