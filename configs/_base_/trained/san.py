# SAN (Xu et al., CVPR 2023) as published: CLIP ViT-B/16 at half size beside the side network, one pass, no windows.
model = dict(
    type="DecoderSegmentor",
    backbone=dict(type="ClipBackbone", weights="san/vit_b_16", pos_embed="size"),
    decoder=dict(type="SideAdapterDecoder", weights="san/vit_b_16"),
    framing=dict(type="WholePhoto", pad_multiple=32, activate_at="photo"),
    templates="vild",
    supervision="CLIP: image-text pairs; side adapter: the masks of COCO-Stuff",
)
