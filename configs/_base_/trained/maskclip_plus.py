# MaskCLIP+ (Zhou et al., ECCV 2022): DeepLabv2 whose last layer is CLIP's text; its labels came from MaskCLIP.
model = dict(
    type="DecoderSegmentor",
    backbone=dict(type="ClipBackbone", weights="openai/ViT-B-16"),
    decoder=dict(type="DeepLabDecoder", weights="maskclip_plus/resnet101", network="resnet101c"),
    framing=dict(type="WholePhoto", pad_multiple=None, cut_padding=False, activation="none"),
    templates="openai_80",
    supervision="CLIP: image-text pairs; ResNet: ImageNet's labels; DeepLab: images only, labelled by MaskCLIP",
)
