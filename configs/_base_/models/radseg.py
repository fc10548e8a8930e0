# RADSeg: RADIO's last block attends by what its own attention gave; features are spliced and aggregated over the photo,
# and compared with SigLIP 2's words through RADIO's language head.
model = dict(
    type="OpenVocabSegmentor",
    backbone=dict(
        type="RadioBackbone",
        weights="radio/vitb16",
        language="radio/siglip2_vitb16",
        text="webli/ViT-gopt-16-SigLIP2-384",
        pos_embed="square_corners",
    ),
    attention=dict(type="SelfRecursiveAttention", scale=10.0),
    templates="openai_80",
    windows=dict(crop=336, stride=224, fit_multiple=224),
    stitch=dict(type="SelfAggregatedSplice", scale=10.0),
    probability_scale=100.0,
    head=dict(type="MaxQueryHead", softmax=False, peak_threshold=0.5),
    supervision="RADIO: distilled from CLIPs, DINOv2 and SAM (masks); SigLIP 2's text tower: image-text pairs",
)
