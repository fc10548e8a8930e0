# LPOSS (Stojnić et al., CVPR 2025): MaskCLIP's scores propagated over one graph of all windows' patches, made by DINO.
model = dict(
    type="OpenVocabSegmentor",
    backbone=dict(type="ClipBackbone", weights="laion2b_s34b_b88k/ViT-B-16", pos_embed="size"),
    attention=dict(type="ValueAttention", residual=True, ffn=True),
    guide=dict(type="DinoBackbone", weights="dino/vitb16", feature="v", pos_embed="scale"),
    stitch=dict(type="GraphStitch", neighbours=400, gamma=3.0, sigma=0.01, alpha=0.95, iterations=10),
    templates="openai_80",
    windows=dict(crop=224, stride=112),
    head=dict(type="EarlyMaxHead"),
)
