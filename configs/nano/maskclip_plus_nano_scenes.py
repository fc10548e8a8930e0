# nano's words on scenes with MaskCLIP+, trained by maskclip_plus_nano_train.py on labels that SCLIP gives.
_base_ = ["../_base_/datasets/scenes.py", "../_base_/runtime/eval.py"]
model = dict(
    type="DecoderSegmentor",
    backbone=dict(type="ClipBackbone", weights="nano_maskclip_plus", pos_embed="size"),
    decoder=dict(
        type="DeepLabDecoder",
        weights="nano_maskclip_plus",
        network="tf_efficientnet_lite0",
        dilations=(1, 3),
        output_stride=16,
    ),
    framing=dict(type="WholePhoto", pad_multiple=None, cut_padding=False, activation="none"),
    templates="photo",
    vocabulary=dict(file="{{ fileDirname }}/../../data/scenes/classes.txt"),
    supervision="nano's CLIP: image-text pairs; network: ImageNet's labels; DeepLab: images labelled by SCLIP",
)
