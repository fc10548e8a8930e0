# DeCLIP (Wang et al., CVPR 2025): a CLIP whose dense features were tuned, used with its last block's q-q attention.
# EVA-02 CLIP B/16; no weights are published: train them (configs/declip/declip_eva-vitb16_train.py) and name the file,
# --cfg-options model.backbone.checkpoint=work_dirs/declip_eva-vitb16_train/ensemble_epoch_6.safetensors
model = dict(
    type="OpenVocabSegmentor",
    backbone=dict(type="ClipBackbone", weights="declip/EVA02-B-16", pos_embed="size"),
    attention=dict(type="DeclipAttention", scaled=False),
    windows=dict(crop=336, stride=224),
    templates="openai_80",
    supervision="CLIP: image-text pairs; DeCLIP: images only, taught by CLIP and DINOv2",
)
