# Finetuning CLIP itself on a folder of one's own: it begins as NACLIP and trains LoRA terms; see configs/finetune/.
_base_ = "./finetune.py"
model = dict(
    type="DecoderSegmentor",
    backbone=dict(type="ClipBackbone", weights="openai/ViT-B-16", pos_embed="scale", low_rank=dict(rank=8)),
    decoder=dict(type="DenseDecoder", attention=dict(type="NeighbourAttention", std=5.0), logit_scale=40.0),
    framing=dict(type="SlidingCrops", crop=224, stride=112, activation="none"),
    training_framing=dict(type="WholePhoto", side=224, cut_padding=False, activation="none"),
    head=dict(type="MaxQueryHead", logit_scale=1.0),
    loss=dict(type="PixelLoss", every=4),
    trained=["*.parametrizations.*.down", "*.parametrizations.*.up"],
    templates="openai_80",
    supervision="CLIP: image-text pairs, finetuned on masks",
)
val_dataloader = dict(
    dataset=dict(
        pipeline=[
            dict(type="LoadImage"),
            dict(type="LoadMask"),
            dict(type="ResizeShortSide", short_side=336, max_long=2048),
            dict(type="PackInputs"),
        ],
    ),
)
optim_wrapper = dict(optimizer=dict(lr=1e-4, weight_decay=0.01), clip_grad=dict(max_norm=1.0))
