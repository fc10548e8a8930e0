# ProxyCLIP (Lan et al., ECCV 2024): DINO's feature correspondence in place of CLIP's last attention.
model = dict(
    type="OpenVocabSegmentor",
    backbone=dict(type="ClipBackbone", weights="openai/ViT-B-16", pos_embed="scale"),
    guide=dict(type="DinoBackbone", weights="dino/vitb8", feature="tokens", pos_embed="scale"),
    attention=dict(type="ProxyAttention", beta=1.2, gamma=3.0, mean_scope="window"),
    templates="openai_80",
    windows=dict(crop=336, stride=112, pad_multiple=56),
    head=dict(type="MaxQueryHead", logit_scale=40),
)
