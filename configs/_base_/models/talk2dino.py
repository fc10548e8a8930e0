# Talk2DINO (Barsellotti et al., ICCV 2025): patches of DINOv2, words of CLIP brought to them by a trained map.
model = dict(
    type="OpenVocabSegmentor",
    backbone=dict(
        type="TextMappedBackbone",
        weights="dinov2/vitb14_reg",
        text="openai/ViT-B-16",
        text_map="talk2dino/vitb14_reg",
        pos_embed="antialias",
    ),
    attention=dict(type="HeadCleaning", weight=0.0),
    templates="talk2dino",
    windows=dict(crop=448, stride=224, align_corners=True),
    probability_scale=1.0,
    queries_apart=True,
    head=dict(type="MaxQueryHead", softmax=False),
    supervision="DINOv2: images only; CLIP's text tower: image-text pairs; the map between them: image-text pairs",
)
