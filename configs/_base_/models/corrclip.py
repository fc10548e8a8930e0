# CorrCLIP v1 (Zhang et al., ICCV 2025): attention inside SAM's regions, DINO between them, labels voted per region.
model = dict(
    type="OpenVocabSegmentor",
    backbone=dict(type="ClipBackbone", weights="metaclip_fullcc/ViT-B-16", pos_embed="scale"),
    guide=dict(type="DinoBackbone", weights="dino/vitb8", feature="q+k", pos_embed="scale"),
    regions=dict(type="CachedRegions", source=dict(type="SamMasks", weights="sam/vit_h")),
    attention=dict(
        type="RegionAttention",
        temperature=4.0,
        merge_eps=0.2,
        spatial_weight=1.0,
        semantic_weight=0.5,
        spatial_layers=5,
    ),
    templates="openai_80",
    windows=dict(crop=336, stride=112, pad_multiple=56),
    label_refiners=[dict(type="RegionVote")],
    head=dict(type="MaxQueryHead", logit_scale=40),
)
