# Training of SegCLIP, ViT-B/16, on captions: `torchrun --nproc_per_node 8 tools/train.py
# configs/segclip/segclip_vitb16_train.py --launcher pytorch` (the paper: 8 GPUs, 768 pairs in all, 10 epochs).
# CC3M as you downloaded it: photos and a file `pairs.tsv` (a photo's path, a tab, its caption) in `$OVSEG_DATA/cc3m`;
# COCO's photos and captions in `$OVSEG_DATA/coco`. No mask is looked at but those of the validation.
_base_ = "../_base_/trained/segclip.py"
default_scope = "ovseg"
epochs, warmup = 10, 1.5
_steps = [
    dict(type="LoadImage"),
    dict(type="ResizePIL", short_side=224, center_crop=True),
    dict(type="Superpixels", source=dict(type="FelzenszwalbRegions", scale=224, sigma=9.0, min_size=224), patch=16),
    dict(type="PackInputs", keys=("captions", "superpixels")),
]
# CLIP's share of the learning rate: all but the blocks that the centres' tokens go through, and what follows them
_clip = dict(lr_mult=1e-3)
_undecayed_clip = dict(lr_mult=1e-3, decay_mult=0.0)
model = dict(
    reconstruction=dict(blocks=2, decoder_width=384, decoder_heads=8, decoder_blocks=3, share=0.75),
    vocabulary=dict(file="voc21_clearclip", background=0),
    head=dict(threshold=0.8),
    trained=[
        "decoder.*",
        "reconstruction.*",
        "backbone.clip.visual.conv1.*",
        "backbone.clip.visual.positional_embedding",
        "backbone.clip.visual.ln_*",
        "backbone.clip.visual.transformer.*",
        "backbone.clip.visual.proj",
        "backbone.clip.token_embedding.*",
        "backbone.clip.positional_embedding",
        "backbone.clip.transformer.*",
        "backbone.clip.ln_final.*",
        "backbone.clip.text_projection",
        "backbone.clip.logit_scale",
    ],
)
train_dataloader = dict(
    batch_size=96,
    num_workers=16,
    persistent_workers=True,
    drop_last=True,
    sampler=dict(type="DefaultSampler", shuffle=True),
    collate_fn=dict(type="pseudo_collate"),
    dataset=dict(
        type="ConcatDataset",
        datasets=[
            dict(
                type="CaptionDataset",
                data_root="{{$OVSEG_DATA:data}}/cc3m",
                img_dir="images",
                captions="pairs.tsv",
                on_error="another",
                pipeline=_steps,
            ),
            dict(
                type="CaptionDataset",
                data_root="{{$OVSEG_DATA:data}}/coco",
                img_dir="train2017",
                captions="annotations/captions_train2017.json",
                pipeline=_steps,
            ),
        ],
    ),
)
train_cfg = dict(type="EpochBasedTrainLoop", max_epochs=epochs)
val_cfg = dict(type="ValLoop")
val_dataloader = dict(
    batch_size=1,
    num_workers=2,
    sampler=dict(type="DefaultSampler", shuffle=False),
    collate_fn=dict(type="pseudo_collate"),
    dataset=dict(
        type="SegmentationDataset",
        benchmark="voc21",
        classes="voc21",
        data_root="{{$OVSEG_DATA:data}}/VOCdevkit/VOC2012",
        img_dir="JPEGImages",
        mask_dir="SegmentationClass",
        split="ImageSets/Segmentation/val.txt",
        pipeline=[
            dict(type="LoadImage"),
            dict(type="LoadMask"),
            dict(type="ResizeShortSide", short_side=224, max_long=2048),
            dict(type="PackInputs"),
        ],
    ),
)
val_evaluator = dict(type="SegMetric")
optim_wrapper = dict(
    type="OptimWrapper",
    constructor="TrainedParameters",
    optimizer=dict(type="AdamW", lr=4e-3, betas=(0.9, 0.98), eps=1e-6, weight_decay=0.05),
    clip_grad=dict(max_norm=1.0),
    paramwise_cfg=dict(
        norm_decay_mult=0.0,
        bias_decay_mult=0.0,
        custom_keys={
            "backbone.clip.visual.conv1": _clip,
            "backbone.clip.visual.positional_embedding": _clip,
            "backbone.clip.visual.ln_pre": _undecayed_clip,
            **{f"backbone.clip.visual.transformer.resblocks.{i}.": _clip for i in range(10)},
            "backbone.clip.token_embedding": _clip,
            "backbone.clip.positional_embedding": _clip,
            "backbone.clip.transformer": _clip,
            "backbone.clip.ln_final": _undecayed_clip,
            "backbone.clip.text_projection": _clip,
            "backbone.clip.logit_scale": dict(decay_mult=0.0),
        },
    ),
)
param_scheduler = [
    dict(type="LinearLR", start_factor=1e-3, begin=0, end=warmup, by_epoch=True, convert_to_iter_based=True),
    dict(
        type="CosineAnnealingLR",
        eta_min=0.0,
        begin=warmup,
        T_max=epochs - warmup,
        end=epochs,
        by_epoch=True,
        convert_to_iter_based=True,
    ),
]
default_hooks = dict(
    logger=dict(type="LoggerHook", interval=50),
    checkpoint=dict(type="CheckpointHook", interval=1, max_keep_ckpts=2, save_last=True),
)
custom_hooks = [dict(type="TrainingPlanHook")]
randomness = dict(seed=0)
resume = False
work_dir = "work_dirs/segclip_vitb16_train"
