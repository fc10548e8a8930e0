# What trainings of decoders at nano's scale share: composed scenes of the seen words with label maps, validation on
# scenes of another seed with all words (mIoU of seen and unseen words and their harmonic mean), optimiser, schedule.
_base_ = ["../runtime/nano_train.py"]
max_iters = 800
crop = 112
train_dataloader = dict(
    batch_size=8,
    collate_fn=dict(type="pseudo_collate"),
    dataset=dict(
        type="SceneLabels",
        sprites="{{$OVSEG_DATA:data}}/sprites/fluent.npz",
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
    dataset=dict(type="ValidationScenes", sprites="{{$OVSEG_DATA:data}}/sprites/fluent.npz", count=12),
)
val_evaluator = dict(type="SplitMetric", unseen="{{ fileDirname }}/../../../data/scenes/unseen.txt")

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
