# FC-CLIP (Yu et al., NeurIPS 2023), ConvNeXt-L: one frozen CLIP is backbone and classifier of Mask2Former's masks.
# `trained_classes` decides which classes count as seen. The published figures use the authors' list of synonyms of
# COCO's panoptic classes; here are the plain names. Give a class file of your own for others.
model = dict(
    type="MaskSegmentor",
    backbone=dict(type="ConvNextClip", weights="fcclip/convnext_large"),
    decoder=dict(
        type="FcClipDecoder",
        weights="fcclip/convnext_large",
        trained_classes="coco_panoptic",
        queries=250,
        alpha=0.4,
        beta=0.8,
    ),
    framing=dict(type="WholePhoto", pad_multiple=32),
    templates="vild",
    supervision="CLIP: image-text pairs; decoder: COCO panoptic masks with classes",
)
