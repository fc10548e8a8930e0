# SAM-CLIP (Wang et al., 2023): SAM's encoder that learned CLIP's photos too; patches of its CLIP head against words.
# Neither code nor weights are published: train them (configs/sam_clip_merged/*_train.py, tools/publish_decoder.py),
# --cfg-options model.backbone.checkpoint=FILE
model = dict(
    type="OpenVocabSegmentor",
    backbone=dict(type="SamClipBackbone", weights="sam_clip_merged/vitb16", sam="sam/vit_b", pos_embed="size"),
    attention=dict(type="PlainAttention"),
    windows=dict(crop=448, stride=224, pad_multiple=16),
    templates="openai_80",
    supervision="SAM: SA-1B masks (no classes); CLIP: image-text pairs; the encoder: images, taught by both",
)
