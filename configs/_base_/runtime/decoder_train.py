# How a trained decoder is trained: AdamW by iterations, checkpoints and logs, validation; see configs/catseg/.
default_scope = "ovseg"
train_dataloader = dict(
    batch_size=4,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type="InfiniteSampler", shuffle=True),
    collate_fn=dict(type="pseudo_collate"),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=2,
    sampler=dict(type="DefaultSampler", shuffle=False),
    collate_fn=dict(type="pseudo_collate"),
)
val_evaluator = dict(type="SegMetric")
val_cfg = dict(type="ValLoop")
train_cfg = dict(type="IterBasedTrainLoop")
optim_wrapper = dict(
    type="OptimWrapper",
    constructor="TrainedParameters",
    optimizer=dict(type="AdamW"),
    paramwise_cfg=dict(norm_decay_mult=0.0),
)
default_hooks = dict(
    logger=dict(type="LoggerHook", interval=20, log_metric_by_epoch=False),
    checkpoint=dict(type="CheckpointHook", by_epoch=False, interval=1000, max_keep_ckpts=2, save_last=True),
)
custom_hooks = [dict(type="TrainingPlanHook")]
log_processor = dict(by_epoch=False)
randomness = dict(seed=0)
resume = False
