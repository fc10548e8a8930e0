# DenseCLIP (Rao et al., CVPR 2022) on ViT-B/16: learned prompts, their scores in a Semantic FPN; classes are fixed.
model = dict(
    type="DenseClipSegmentor",
    backbone=dict(type="ClipBackbone", weights="openai/ViT-B-16", pos_embed="bilinear"),
    decoder=dict(type="DenseClipDecoder", weights=None),
    framing=dict(type="SlidingCrops", crop=640, stride=426, activation="none"),
    head=dict(type="MaxQueryHead", logit_scale=1.0),
    text_cache=False,
    supervision="CLIP: image-text pairs, finetuned with the decoder on the masks of the classes",
)
