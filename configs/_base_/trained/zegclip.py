# ZegCLIP (Zhou et al., CVPR 2023): prompts in a frozen CLIP ViT-B/16, words related to the photo, masks by
# cross-attention.
model = dict(
    type="DecoderSegmentor",
    backbone=dict(type="ClipBackbone", weights="openai/ViT-B-16", pos_embed="bilinear"),
    decoder=dict(type="RelationDecoder", weights=None),
    framing=dict(type="SlidingCrops", crop=512, stride=426),
    templates="openai_80",
    text_cache=False,
    supervision="CLIP: image-text pairs; decoder and prompts: masks of the seen classes",
    loss=dict(type="FocalDiceLoss"),
    trained=["decoder.prompts.*", "decoder.stages.*"],
    lower_seen=0.1,
)
