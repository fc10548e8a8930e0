# CAT-Seg at nano's scale: `python tools/train.py configs/nano/catseg_nano_train.py`
# after `python -m ovseg.nano.sprites fetch`. From nano's CLIP, on composed scenes of 129 object words and 8 grounds;
# 43 object words are held out: they never appear, with or without a mask. Validation every 400 iterations on scenes of
# another seed with all 180 words: mIoU of seen and unseen words and their harmonic mean.
_base_ = ["../_base_/runtime/nano_train.py"]
max_iters = 800
sprites = "{{$OVSEG_DATA:data}}/sprites/fluent.npz"
crop = 112

model = dict(
    type="DecoderSegmentor",
    backbone=dict(type="ClipBackbone", weights="nano", pos_embed="size", split_projections=True),
    decoder=dict(
        type="CatSegDecoder",
        guidance_blocks=(1, 3),
        dim=64,
        guidance_dim=64,
        window=7,
        up_dims=(32, 16),
        up_guidance=(16, 8),
        middle_dims=(64, 32),
        training_pooling=1,
        max_words=64,
    ),
    framing=dict(type="SlidingCrops", crop=crop, stride=56),
    training_framing=dict(type="WholePhoto", pad_multiple=None),
    loss=dict(type="BinaryMapLoss"),
    trained=["decoder.*", "backbone.clip.*.attn.[qv]_proj_weight"],
    vocabulary=dict(file="{{ fileDirname }}/../../data/scenes/classes.txt"),
    training_vocabulary=dict(file="{{ fileDirname }}/../../data/scenes/seen.txt"),
    words_per_step=32,
    templates="photo",
    text_cache=False,
    supervision="nano's CLIP: image-text pairs; CAT-Seg: masks of composed scenes, 43 of 172 object words held out",
)

train_dataloader = dict(
    batch_size=8,
    collate_fn=dict(type="pseudo_collate"),
    dataset=dict(
        type="SceneLabels",
        sprites=sprites,
        size=crop,
        seed=21,
        style=dict(edge=(36, 150), items=(1, 4)),
    ),
)
train_cfg = dict(max_iters=max_iters, val_interval=400)
val_cfg = dict(type="ValLoop")
val_dataloader = dict(
    batch_size=1,
    num_workers=0,
    sampler=dict(type="DefaultSampler", shuffle=False),
    collate_fn=dict(type="pseudo_collate"),
    dataset=dict(type="ValidationScenes", sprites=sprites, count=12),
)
val_evaluator = dict(type="SplitMetric", unseen="{{ fileDirname }}/../../data/scenes/unseen.txt")

optim_wrapper = dict(
    constructor="TrainedParameters",
    optimizer=dict(lr=2e-3, weight_decay=0.01),
    clip_grad=dict(max_norm=1.0),
    paramwise_cfg=dict(norm_decay_mult=0.0, custom_keys={"backbone.clip": dict(lr_mult=0.01)}),
)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.05, begin=0, end=50, by_epoch=False),
    dict(type="CosineAnnealingLR", eta_min=1e-5, begin=50, end=max_iters, by_epoch=False),
]
default_hooks = dict(checkpoint=dict(interval=50, max_keep_ckpts=2, save_last=True))
custom_hooks = [dict(type="TrainingPlanHook")]
work_dir = "work_dirs/catseg_nano_train"
