# MAFT+ (Jiao et al., ECCV 2024): FC-CLIP's network with a finetuned CLIP, whose words look at the image.
model = dict(
    type="MaskSegmentor",
    backbone=dict(type="ConvNextClip", weights="maft_plus/base"),
    decoder=dict(type="MaftPlusDecoder", weights="maft_plus/base", queries=100),
    framing=dict(type="WholePhoto", pad_multiple=32),
    templates="vild",
    supervision="CLIP: image-text pairs, finetuned, and decoder: COCO-Stuff masks with classes",
)
