# SED (Xie et al., CVPR 2024) as published: a ConvNeXt-B CLIP on the whole photo at 768 x 768, every template apart.
model = dict(
    type="DecoderSegmentor",
    backbone=dict(type="ConvNextClip", weights="sed/base"),
    decoder=dict(type="GradualFusionDecoder", weights="sed/base"),
    framing=dict(type="WholePhoto", pad_multiple=None, side=768, cut_padding=False),
    templates="openai_80",
    templates_apart=True,
    supervision="CLIP: image-text pairs, finetuned with the decoder on the masks of COCO-Stuff",
)
