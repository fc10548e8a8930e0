# CLIPer (Sun et al., ICCV 2025) without its diffusion step: early layers' features and attention maps are fused.
# `cumulative` and `from_right` reproduce the official code (see their documentation); the templates are ours.
model = dict(
    type="OpenVocabSegmentor",
    backbone=dict(type="ClipBackbone", weights="openai/ViT-B-16", pos_embed="bilinear"),
    attention=dict(type="FusedAttention", cumulative=True),
    templates=[
        "a photo of a {}.",
        "a photo of the {}.",
        "a picture of a {}",
        "an image of one {}.",
        "a photograph showing a {}",
        "a snapshot of the {}.",
        "a photo with a {} in it.",
        "a cropped image of a {}",
        "a close view of the {}.",
        "a distant view of a {}",
        "a bright photo of a {}.",
        "a dim photo of the {}.",
        "a sharp photo of a {}",
        "a small {} in a photo.",
        "a large {} in a photo.",
    ],
    windows=dict(crop=None),
    stitch=dict(type="LayerwiseStitch", threshold=0.1, logit_scale=100, slide=None, from_right=True),
    head=dict(type="ClassMapHead", threshold=0.6, score_threshold=0.7, normalise=True),
)
