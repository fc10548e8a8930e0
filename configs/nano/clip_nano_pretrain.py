# nano's CLIP from image-caption pairs: `python tools/train.py configs/nano/clip_nano_pretrain.py`
# after `python -m ovseg.nano.sprites fetch`.
# The shipped weights had less time than this: see ovseg/assets/nano/MODEL_CARD.md.
# Two CPU cores: set OMP_NUM_THREADS=2 OMP_WAIT_POLICY=PASSIVE, or the loader and the model spin against each other.
_base_ = ["../_base_/runtime/nano_pretrain.py"]
max_iters = 30000
warmup = 150
sprites = "{{$OVSEG_DATA:data}}/sprites/fluent.npz"

# All patches are kept: with half of them words are learned much more slowly at this size.
model = dict(type="ClipPretrainer", clip="nano/clip.json", keep=1.0)

train_dataloader = dict(
    batch_size=72,
    collate_fn=dict(type="stack_captions"),
    dataset=dict(
        type="SceneCaptions",
        sprites=sprites,
        size=96,
        benchmark_share=0.95,
        # Words are learned from crops with one or two objects first.
        easy=500_000,
        style=dict(edge=(40, 120), items=(1, 3), margin=-0.1),
    ),
)
train_cfg = dict(max_iters=max_iters, val_interval=max_iters)

optim_wrapper = dict(
    optimizer=dict(lr=6e-4, betas=(0.9, 0.98), weight_decay=0.05),
    paramwise_cfg=dict(
        custom_keys={
            name: dict(decay_mult=0.0)
            for name in ("token_embedding", "positional_embedding", "class_embedding", "logit_scale")
        },
    ),
)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.02, begin=0, end=warmup, by_epoch=False),
    dict(type="CosineAnnealingLR", eta_min=1e-5, begin=warmup, end=max_iters, by_epoch=False),
]

default_hooks = dict(
    logger=dict(interval=25),
    checkpoint=dict(interval=500, max_keep_ckpts=3),
)
custom_hooks = [
    # Updated every 8th iteration: an average of all weights costs as much as a small step.
    dict(type="EMAHook", ema_type="ExponentialMovingAverage", momentum=0.04, interval=8, begin_iter=warmup),
    dict(type="ProbeHook", sprites=sprites, interval=500),
]
work_dir = "work_dirs/clip_nano_pretrain"
