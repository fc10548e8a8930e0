# OVSeg (Liang et al., CVPR 2023): masks of a Swin-B MaskFormer, named by its queries and by a mask-adapted CLIP.
model = dict(
    type="MaskSegmentor",
    backbone=dict(type="ClipBackbone", weights="ovseg/swinb_vitl14"),
    decoder=dict(type="OvSegDecoder", weights="ovseg/swinb_vitl14", queries=100, threshold=0.4, prompt_depth=3),
    framing=dict(type="WholePhoto", pad_multiple=32),
    templates="vild",
    supervision="CLIP: image-text pairs, finetuned on masked crops; decoder: COCO-Stuff masks with classes",
)
