# SegCLIP (Luo et al., ICML 2023) on ViT-B/16: eight learned centres gather CLIP's patches; trained on captions.
model = dict(
    type="SegClipSegmentor",
    backbone=dict(type="ClipBackbone", weights="openai/ViT-B-16", pos_embed="size"),
    decoder=dict(type="SegClipDecoder", weights=None),
    framing=dict(type="SlidingCrops", crop=224, stride=224, activation="one_hot"),
    head=dict(type="MaxQueryHead", softmax=False, within_reach=True),
    templates="openai_80",
    text_cache=False,
    supervision="CLIP: image-text pairs, finetuned with the decoder on image-text pairs; superpixels, no masks",
)
