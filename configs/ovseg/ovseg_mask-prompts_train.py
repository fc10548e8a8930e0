# OVSeg's mask prompt tuning on masked crops of COCO-Stuff's classes (the paper's pairs are nouns of COCO's captions):
# `python tools/train.py configs/ovseg/ovseg_mask-prompts_train.py`. The paper: 4 GPUs, 32 crops on each, 5 epochs.
# For the mask-adapted CLIP that comes before it: model.trained=["backbone.clip.visual.*","backbone.clip.logit_scale"],
# model.prompt_depth=0, optim_wrapper.optimizer.lr=5e-6, optim_wrapper.optimizer.weight_decay=0.2.
default_scope = "ovseg"
max_iters = 17_000
model = dict(
    type="MaskAdaptationTrainer",
    backbone=dict(type="ClipBackbone", weights="openai/ViT-L-14"),
    trained=["mask_embedding", "backbone.clip.logit_scale"],
    prompt_depth=3,
)
train_dataloader = dict(
    batch_size=128,
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
            dict(type="NounCrop", classes="coco_stuff", size=224, scale=(0.9, 1.0)),
        ],
    ),
)
train_cfg = dict(type="IterBasedTrainLoop", max_iters=max_iters)
optim_wrapper = dict(
    type="OptimWrapper",
    optimizer=dict(type="AdamW", lr=0.05, betas=(0.9, 0.98), eps=1e-6, weight_decay=0.0),
)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.01, begin=0, end=100, by_epoch=False),
    dict(type="CosineAnnealingLR", eta_min=0.0, begin=100, end=max_iters, by_epoch=False),
]
custom_hooks = [dict(type="TrainingPlanHook")]
default_hooks = dict(
    logger=dict(type="LoggerHook", interval=50, log_metric_by_epoch=False),
    checkpoint=dict(type="CheckpointHook", interval=1000, by_epoch=False, max_keep_ckpts=2, save_last=True),
)
log_processor = dict(by_epoch=False)
randomness = dict(seed=0)
resume = False
work_dir = "work_dirs/ovseg_mask-prompts_train"
