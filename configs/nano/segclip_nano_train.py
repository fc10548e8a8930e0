# SegCLIP at nano's scale: `python tools/train.py configs/nano/segclip_nano_train.py` after
# `python -m ovseg.nano.sprites fetch`. Eight centres in nano's CLIP, from captions of composed scenes and superpixels;
# no mask is looked at, and 43 of the 172 object words never occur.
# Validation every 400 iterations on scenes of another seed with all 180 words.
_base_ = ["../_base_/trained/nano_scenes_train.py"]
max_iters = 800
model = dict(
    type="SegClipSegmentor",
    backbone=dict(type="ClipBackbone", weights="nano", pos_embed="size"),
    decoder=dict(type="SegClipDecoder"),
    reconstruction=dict(decoder_width=96, decoder_heads=4, decoder_blocks=2),
    framing=dict(type="SlidingCrops", crop=112, stride=56, activation="one_hot"),
    head=dict(type="MaxQueryHead", softmax=False),
    trained=[
        "decoder.*",
        "reconstruction.*",
        "backbone.clip.visual.transformer.*",
        "backbone.clip.visual.ln_post.*",
        "backbone.clip.visual.proj",
        "backbone.clip.logit_scale",
    ],
    vocabulary=dict(file="{{ fileDirname }}/../../data/scenes/classes.txt"),
    templates="photo",
    text_cache=False,
    supervision="nano's CLIP: image-text pairs; centres: captions of scenes, 43 of 172 words held out; no masks",
)
train_dataloader = dict(
    batch_size=24,
    dataset=dict(
        type="CaptionedScenes",
        pipeline=[
            dict(
                type="Superpixels",
                source=dict(type="FelzenszwalbRegions", scale=112, sigma=1.0, min_size=112),
                patch=16,
            ),
            dict(type="PackInputs", keys=("captions", "superpixels")),
        ],
    ),
)
train_cfg = dict(max_iters=max_iters, val_interval=400)
optim_wrapper = dict(optimizer=dict(lr=2e-4))  # with 2e-3 all patches go to one centre within 50 iterations
param_scheduler = [
    dict(type="LinearLR", start_factor=0.05, begin=0, end=100, by_epoch=False),
    dict(type="CosineAnnealingLR", eta_min=1e-5, begin=100, end=max_iters, by_epoch=False),
]
work_dir = "work_dirs/segclip_nano_train"
