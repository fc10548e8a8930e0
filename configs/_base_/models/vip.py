# VIP (ICML 2026): dino.txt on DINOv3, its blocks attending by DINOv3's patches, and many names for a class weighed.
model = dict(
    type="OpenVocabSegmentor",
    backbone=dict(type="DinoTxtBackbone", weights="dinov3/vitl16", text="dinotxt/vitl16", tokens="head"),
    attention=dict(type="HeadProxyAttention", beta=1.5, gamma=0.5),
    templates="openai_80",
    keep_length=True,
    windows=dict(crop=336, stride=112, pad_multiple=56, pad_value="clip"),
    stitch=dict(type="AliasStitch", scale=40.0),
    head=dict(type="ClassHead"),
    supervision="DINOv3: images only; dino.txt's blocks and text tower: image-text pairs",
)
