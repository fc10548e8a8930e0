# Training of DeCLIP, EVA-02 CLIP B/16: `python tools/train.py configs/declip/declip_eva-vitb16_train.py --amp` (the
# paper: 4 GPUs with 4 photos each). Photos without labels: COCO's train2017 in
# `$OVSEG_DATA/coco_stuff164k/images`.
# After every epoch 0.7 of the trained weights and 0.3 of CLIP's go to ensemble_epoch_N.safetensors, for
# `model.backbone.checkpoint` of the other configs here. DINOv2 sees the photo at as many patches as CLIP has.
default_scope = "ovseg"
epochs, warmup = 6, 1000
model = dict(
    type="DeclipTrainer",
    student=dict(
        type="OpenVocabSegmentor",
        backbone=dict(type="ClipBackbone", weights="merged2b_s8b_b131k/EVA02-B-16", pos_embed="size"),
        attention=dict(type="DeclipAttention", scaled=False),
        windows=dict(crop=336, stride=224),
        vocabulary=dict(file="voc20"),
        supervision="CLIP: image-text pairs; DeCLIP: images only, taught by CLIP and DINOv2",
    ),
    foundation=dict(type="DinoBackbone", weights="dinov2/vitb14_reg", pos_embed="size"),
    unit_content=False,
    trained=[
        "clip.visual.trunk.blocks.[0-9].*",
        "clip.visual.trunk.blocks.10.*",
        # of the last block what q-q attention uses
        "clip.visual.trunk.blocks.11.norm1.*",
        "clip.visual.trunk.blocks.11.attn.[qv]_proj.*",
        "clip.visual.trunk.blocks.11.attn.norm.*",
        "clip.visual.trunk.blocks.11.attn.proj.*",
    ],
)
train_dataloader = dict(
    batch_size=4,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type="DefaultSampler", shuffle=True),
    collate_fn=dict(type="pseudo_collate"),
    dataset=dict(
        type="SegmentationDataset",
        classes=("photo",),
        data_root="{{$OVSEG_DATA:data}}/coco_stuff164k",
        img_dir="images/train2017",
        mask_dir=None,
        on_error="raise",
        pipeline=[
            dict(type="LoadImage"),
            dict(type="BoxCrops", size=560, crop=224),
            dict(type="PackInputs", keys=("boxes", "crops")),
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
        benchmark="voc20",
        classes="voc20",
        data_root="{{$OVSEG_DATA:data}}/VOCdevkit/VOC2012",
        img_dir="JPEGImages",
        mask_dir="SegmentationClass",
        split="ImageSets/Segmentation/val.txt",
        reduce_zero_label=True,
        pipeline=[
            dict(type="LoadImage"),
            dict(type="LoadMask"),
            dict(type="ResizeShortSide", short_side=448, max_long=2048),
            dict(type="PackInputs"),
        ],
    ),
)
val_evaluator = dict(type="SegMetric")
optim_wrapper = dict(
    type="OptimWrapper",
    optimizer=dict(type="AdamW", lr=1e-5, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.1),
    paramwise_cfg=dict(norm_decay_mult=0.0, bias_decay_mult=0.0),
)
param_scheduler = [
    dict(type="LinearLR", start_factor=1e-3, begin=0, end=warmup, by_epoch=False),
    dict(
        type="CosineAnnealingLR",
        eta_min=0.0,
        begin=0,
        T_max=epochs,
        end=epochs,
        by_epoch=True,
        convert_to_iter_based=True,
    ),
]
default_hooks = dict(
    logger=dict(type="LoggerHook", interval=50),
    checkpoint=dict(type="CheckpointHook", interval=1, max_keep_ckpts=2, save_last=True),
)
custom_hooks = [dict(type="TrainingPlanHook"), dict(type="WeightEnsembleHook", alpha=0.7)]
