# SAM + CLIP: SAM finds masks, CLIP names each of them, the best score wins where they overlap.
model = dict(
    type="SamClipSegmentor",
    backbone=dict(type="ClipBackbone", weights="openai/ViT-B-16", pos_embed="scale"),
    regions=dict(type="CachedRegions", source=dict(type="SamMasks", weights="sam/vit_b")),
    region_encoder=dict(type="MaskedCrop"),
    attention=dict(type="SelfSelfAttention", terms=("q",), residual=False, ffn=False),
    templates="openai_80",
    windows=dict(crop=448, stride=224, pad_multiple=16),
    head=dict(type="MaxQueryHead", logit_scale=100),
)
