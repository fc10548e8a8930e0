# SC-CLIP (Bai et al., 2024): outlier tokens repaired, similarity of a middle layer in the last block and around it.
model = dict(
    type="OpenVocabSegmentor",
    backbone=dict(type="ClipBackbone", weights="openai/ViT-B-16", pos_embed="scale"),
    attention=dict(type="CalibratedAttention"),
    templates="openai_80",
    windows=dict(crop=224, stride=112),
    head=dict(type="MaxQueryHead", logit_scale=40),
)
