# nano's SAM from prompts and masks: `python tools/train.py configs/nano/sam_nano_pretrain.py`
# after `python -m ovseg.nano.sprites fetch`.
# The shipped weights had three stages and less time: see ovseg/assets/nano/SAM_CARD.md.
_base_ = ["../_base_/runtime/nano_pretrain.py"]
max_iters = 8000
warmup = 50
sprites = "{{$OVSEG_DATA:data}}/sprites/fluent.npz"

model = dict(
    type="SamPretrainer",
    sizes="nano/sam.json",
    init="nano",
    easy_steps=800,
    single_steps=7000,
    rounds=2,
    affinity=1.0,
)

train_dataloader = dict(
    batch_size=8,
    collate_fn=dict(type="stack_prompts"),
    dataset=dict(
        type="SceneMasks",
        sprites=sprites,
        points=3,
        boxes=1,
        background_share=0.3,
        # Drawn at 384 x 384, of which a part is seen: some two to six sprites.
        style=dict(edge=(40, 176), items=(2, 8), colour=0.2),
    ),
)
train_cfg = dict(max_iters=max_iters, val_interval=max_iters)

optim_wrapper = dict(
    optimizer=dict(lr=1e-3, betas=(0.9, 0.99), weight_decay=0.02),
    clip_grad=dict(max_norm=1.0),
)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.02, begin=0, end=warmup, by_epoch=False),
    dict(type="CosineAnnealingLR", eta_min=2e-5, begin=warmup, end=max_iters, by_epoch=False),
]

default_hooks = dict(
    logger=dict(interval=25),
    checkpoint=dict(interval=250, max_keep_ckpts=4),
)
custom_hooks = [
    dict(type="EMAHook", ema_type="ExponentialMovingAverage", momentum=0.04, interval=4, begin_iter=warmup),
    dict(type="MaskProbeHook", sprites=sprites, interval=500),
]
work_dir = "work_dirs/sam_nano_pretrain"
