# CAT-Seg (Cho et al., CVPR 2024) as published: CLIP ViT-B/16 at 384 pixels, 2 x 2 windows and the whole photo.
model = dict(
    type="DecoderSegmentor",
    backbone=dict(type="ClipBackbone", weights="catseg/base", pos_embed="size"),
    decoder=dict(type="CatSegDecoder", weights="catseg/base"),
    framing=dict(type="CropsAndWhole", canvas=640, crop=384, stride=256),
    templates="scene",
    supervision="CLIP: image-text pairs, finetuned with the decoder on the masks of COCO-Stuff",
)
