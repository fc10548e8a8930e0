# nano's SAM from prompts and masks: `python tools/train.py configs/nano/sam_nano_pretrain.py`
# after `python -m ovseg.nano.sprites fetch`.
# The shipped weights had two stages and less time: see ovseg/assets/nano/SAM_CARD.md.
default_scope = "ovseg"
custom_imports = dict(imports=["ovseg.nano"], allow_failed_imports=False)

max_iters = 4000
warmup = 50
sprites = "data/sprites/fluent.npz"

model = dict(type="SamPretrainer", sizes="ovseg/assets/nano/sam.json", init="nano", easy_steps=800, rounds=2)

train_dataloader = dict(
    batch_size=8,
    num_workers=1,
    persistent_workers=True,
    prefetch_factor=4,
    sampler=dict(type="InfiniteSampler", shuffle=False),
    collate_fn=dict(type="stack_prompts"),
    dataset=dict(
        type="SceneMasks",
        sprites=sprites,
        points=4,
        boxes=2,
        background_share=0.3,
        # Drawn at 384 x 384, of which a part is seen: some two to six sprites.
        style=dict(edge=(40, 176), items=(2, 8), colour=0.2),
    ),
)
train_cfg = dict(type="IterBasedTrainLoop", max_iters=max_iters, val_interval=max_iters)

optim_wrapper = dict(
    type="OptimWrapper",
    optimizer=dict(type="AdamW", lr=1e-3, betas=(0.9, 0.99), weight_decay=0.02, fused=True),
    clip_grad=dict(max_norm=1.0),
    paramwise_cfg=dict(norm_decay_mult=0.0, bias_decay_mult=0.0),
)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.02, begin=0, end=warmup, by_epoch=False),
    dict(type="CosineAnnealingLR", eta_min=2e-5, begin=warmup, end=max_iters, by_epoch=False),
]

default_hooks = dict(
    logger=dict(type="LoggerHook", interval=25),
    checkpoint=dict(type="CheckpointHook", by_epoch=False, interval=100, max_keep_ckpts=6),
)
custom_hooks = [
    dict(type="EMAHook", ema_type="ExponentialMovingAverage", momentum=0.04, interval=4, begin_iter=warmup),
    dict(type="MaskProbeHook", sprites=sprites, interval=200),
]
log_processor = dict(by_epoch=False)
randomness = dict(seed=0)
resume = False
work_dir = "work_dirs/sam_nano_pretrain"
