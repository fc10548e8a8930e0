# DeCLIP at nano's scale: `python tools/train.py configs/nano/declip_nano_train.py`, sprites first
# (`python -m ovseg.nano.sprites fetch`). nano's last block learns from nano itself (boxes) and from nano's guide
# (context), on scenes without a word or a mask, in which 43 of the 172 object words never occur.
# `python tools/publish_decoder.py CONFIG CHECKPOINT OUT --layout overlay --share 0.3 --half` writes the file.
_base_ = ["../_base_/trained/nano_scenes_train.py"]
max_iters = 1200
model = dict(
    type="DeclipTrainer",
    student=dict(
        type="OpenVocabSegmentor",
        backbone=dict(type="ClipBackbone", weights="nano", pos_embed="size"),
        attention=dict(type="DeclipAttention"),
        templates="photo",
        vocabulary=dict(file="{{ fileDirname }}/../../data/scenes/classes.txt"),
        windows=dict(crop=112, stride=56, batch=32),
        text_cache=False,
        supervision="nano's CLIP: image-text pairs; DeCLIP: images only, taught by nano and nano's guide",
    ),
    foundation=dict(type="DinoBackbone", weights="nano_guide", pos_embed="size"),
    trained=[
        "clip.visual.transformer.resblocks.[0-4].*",
        "clip.visual.transformer.resblocks.5.ln_1.*",
        "clip.visual.transformer.resblocks.5.attn.*",
    ],
)
train_dataloader = dict(
    batch_size=8,
    dataset=dict(
        type="UnlabelledScenes",
        pipeline=[
            dict(type="BoxCrops", size=112, crop=112, most_rows=3),
            dict(type="PackInputs", keys=("boxes", "crops")),
        ],
    ),
)
train_cfg = dict(max_iters=max_iters, val_interval=400)
optim_wrapper = dict(optimizer=dict(lr=1e-4, weight_decay=0.1), paramwise_cfg=dict(_delete_=True, norm_decay_mult=0.0))
param_scheduler = [
    dict(type="LinearLR", start_factor=0.05, begin=0, end=50, by_epoch=False),
    dict(type="CosineAnnealingLR", eta_min=1e-6, begin=50, end=max_iters, by_epoch=False),
]
work_dir = "work_dirs/declip_nano_train"
