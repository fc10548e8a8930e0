# SCLIP (Wang et al., ECCV 2024): q-q plus k-k attention in the last block, residual and feed-forward kept.
model = dict(
    type="OpenVocabSegmentor",
    backbone=dict(type="ClipBackbone", weights="openai/ViT-B-16", pos_embed="scale"),
    attention=dict(type="SelfSelfAttention", terms=("q", "k"), residual=True, ffn=True),
    templates="openai_80",
    windows=dict(crop=224, stride=112),
    head=dict(type="MaxQueryHead", logit_scale=40),
)
