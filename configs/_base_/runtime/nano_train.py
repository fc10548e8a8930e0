# What all trainings of nano's parts share: endless composed scenes, AdamW, checkpoints and logs by iterations.
default_scope = "ovseg"
custom_imports = dict(imports=["ovseg.nano"], allow_failed_imports=False)
train_dataloader = dict(
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type="InfiniteSampler", shuffle=False),
)
train_cfg = dict(type="IterBasedTrainLoop")
optim_wrapper = dict(type="OptimWrapper", optimizer=dict(type="AdamW"))
default_hooks = dict(
    logger=dict(type="LoggerHook", interval=20, log_metric_by_epoch=False),
    checkpoint=dict(type="CheckpointHook", by_epoch=False, interval=100),
)
log_processor = dict(by_epoch=False)
randomness = dict(seed=0)
resume = False
