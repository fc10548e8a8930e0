# CorrCLIPv2 (Zhang et al., CorrCLIP's journal version) without its bank: regions as they are, one guide pass per
# photo. Published rows use EntitySeg and C-RADIOv3-L; the guide here is the other branch of the code, configs with
# C-RADIOv3-L are called corrclipv2-radio.
model = dict(
    type="OpenVocabSegmentor",
    backbone=dict(type="ClipBackbone", weights="metaclip_fullcc/ViT-B-16", pos_embed="scale"),
    guide=dict(type="PhotoGuide", source=dict(type="DinoBackbone", weights="dinov3/vitb16", feature="tokens"), scale=2),
    regions=dict(
        type="CachedRegions",
        source=dict(type="Sam2Masks", points_per_side=8, iou_threshold=0.4, stability_threshold=0.4),
    ),
    attention=dict(
        type="RegionAttention",
        temperature=4.0,
        merge_eps=None,
        spatial_weight=1.0,
        semantic_weight=0.5,
        spatial_layers=5,
    ),
    templates="openai_80",
    windows=dict(crop=336, stride=112, pad_multiple=56),
    label_refiners=[dict(type="RegionVote")],
    head=dict(type="MaxQueryHead", logit_scale=40),
)
