# ClearCLIP (Lan et al., ECCV 2024): q-q attention, neither residual nor feed-forward.
model = dict(
    type="OpenVocabSegmentor",
    backbone=dict(type="ClipBackbone", weights="openai/ViT-B-16", pos_embed="scale"),
    attention=dict(type="SelfSelfAttention", terms=("q",), residual=False, ffn=False),
    templates="openai_80",
    windows=dict(crop=448, stride=224, pad_multiple=16),
    head=dict(type="MaxQueryHead", logit_scale=50),
)
