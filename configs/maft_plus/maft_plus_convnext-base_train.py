# MAFT+ with ConvNeXt-B on COCO-Stuff: masks, words that look at the image, and CLIP's trunk under its twin's watch.
# `python tools/train.py configs/maft_plus/maft_plus_convnext-base_train.py`; the paper: 8 GPUs, batch 8, 60,000 steps.
# Photos are cut to squares here, so that those of a batch have one size; the paper pads whole photos instead.
_base_ = ["../_base_/trained/maft_plus.py"]
default_scope = "ovseg"
short_side = 800
max_iters = 60_000
untouched = "laion_aesthetic_s13b_b82k_augreg/convnext_base_w_320"
model = dict(
    backbone=dict(weights=untouched),
    decoder=dict(weights=None),
    teacher=dict(type="ConvNextClip", weights=untouched),
    loss=dict(type="MaskAwareLoss"),
    trained=["decoder.*", "backbone.clip.visual.trunk.stem.*", "backbone.clip.visual.trunk.stages.*"],
    vocabulary=dict(file="coco_stuff"),
)
train_dataloader = dict(
    batch_size=1,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type="InfiniteSampler", shuffle=True),
    collate_fn=dict(type="pseudo_collate"),
    dataset=dict(
        type="SegmentationDataset",
        classes="coco_stuff",
        data_root="{{$OVSEG_DATA:data}}/coco_stuff164k",
        img_dir="images/train2017",
        mask_dir="annotations/train2017",
        mask_suffix="_labelTrainIds.png",
        on_error="raise",
        pipeline=[
            dict(type="LoadImage"),
            dict(type="LoadMask"),
            dict(type="ResizeShortestEdge", short_side=short_side, max_long=1333, labels=True),
            dict(type="CropAndPad", size=short_side),
            dict(type="Mirror"),
            dict(type="PackInputs"),
        ],
    ),
)
train_cfg = dict(type="IterBasedTrainLoop", max_iters=max_iters)
optim_wrapper = dict(
    type="OptimWrapper",
    optimizer=dict(type="AdamW", lr=1e-4, weight_decay=2e-5),
    paramwise_cfg=dict(
        norm_decay_mult=0.0,
        custom_keys={
            "backbone.clip.visual.trunk": dict(lr_mult=0.1),
            **dict.fromkeys(
                ("queries_embedder", "queries_features", "level_embed", "void_embedding"), dict(decay_mult=0.0)
            ),
        },
    ),
    clip_grad=dict(max_norm=0.01),
)
param_scheduler = [dict(type="PolyLR", power=0.9, eta_min=0.0, begin=0, end=max_iters, by_epoch=False)]
custom_hooks = [dict(type="TrainingPlanHook")]
default_hooks = dict(
    logger=dict(type="LoggerHook", interval=50, log_metric_by_epoch=False),
    checkpoint=dict(type="CheckpointHook", interval=5000, by_epoch=False, max_keep_ckpts=2, save_last=True),
)
log_processor = dict(by_epoch=False)
randomness = dict(seed=123)
resume = False
work_dir = "work_dirs/maft_plus_convnext-base_train"
