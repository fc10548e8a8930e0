# SFP (Jin et al., ICCV 2025): SC-CLIP's frame, outliers told by the class token's attention.
model = dict(
    type="OpenVocabSegmentor",
    backbone=dict(type="ClipBackbone", weights="openai/ViT-B-16", pos_embed="scale"),
    attention=dict(
        type="CalibratedAttention",
        outliers="class_attention",
        count=10,
        keep_alone=False,
        similarity="thresholded",
        terms=("q", "k"),
        multi_terms=(),
    ),
    templates="openai_80",
    windows=dict(crop=224, stride=112),
    head=dict(type="MaxQueryHead", logit_scale=40),
)
