# Trident (Shi et al., ICCV 2025): splice CLIP features guided by DINO, aggregate with SAM, refine with SAM's prompts.
model = dict(
    type="OpenVocabSegmentor",
    backbone=dict(type="ClipBackbone", weights="openai/ViT-B-16", pos_embed="scale"),
    guide=dict(type="DinoBackbone", weights="dino/vitb16", feature="tokens", pos_embed="scale"),
    attention=dict(type="ProxyAttention", beta=1.2, gamma=3.0, mean_scope="image"),
    photo_encoder=dict(type="SamBackbone", weights="sam/vit_b", multiple_of=16),
    stitch=dict(type="FeatureSplice", cos_factor=1.2, keep_negative=True),
    templates="openai_80",
    windows=dict(crop=336, stride=224, fit_multiple=16),
    head=dict(type="MaxQueryHead", logit_scale=40),
    label_refiners=[dict(type="SamPromptRefiner", coarse_threshold=0.2, iou_threshold=0.8, min_area=225)],
)
