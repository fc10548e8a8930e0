# Text-based decomposition (Gandelsman et al., ICLR 2024): what each patch adds to CLIP's image embedding, read by
# words.
model = dict(
    type="OpenVocabSegmentor",
    backbone=dict(type="ClipBackbone", weights="openai/ViT-B-16", pos_embed="scale"),
    attention=dict(type="DecomposedAttention", layers=4),
    templates="openai_80",
    windows=dict(crop=None),
    stitch=dict(type="ContributionStitch"),
    head=dict(type="MaxQueryHead", logit_scale=100, background=None),
)
