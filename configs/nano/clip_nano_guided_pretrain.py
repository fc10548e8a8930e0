# Last stage of nano's CLIP: it goes on from weights of clip_nano_pretrain.py with nano's guide among the ways to read
# patches, so that ProxyCLIP, Trident and CorrCLIP find in its values what they need.
# `python tools/train.py configs/nano/clip_nano_guided_pretrain.py`
_base_ = ["./clip_nano_pretrain.py"]
max_iters = 700
warmup = 40

model = dict(
    type="GuidedClipPretrainer",
    _delete_=True,
    clip="nano/clip.json",
    start="nano/clip.safetensors",
    guide=dict(type="DinoBackbone", weights="nano_guide", precision="bf16"),
)
train_dataloader = dict(
    batch_size=48,
    dataset=dict(size=112, easy=0, seed=77, style=dict(edge=(45, 150), items=(1, 4))),
)
train_cfg = dict(max_iters=max_iters, val_interval=max_iters)
optim_wrapper = dict(optimizer=dict(lr=4e-4))
param_scheduler = [
    dict(type="LinearLR", start_factor=0.02, begin=0, end=warmup, by_epoch=False),
    dict(type="CosineAnnealingLR", eta_min=1e-6, begin=warmup, end=max_iters, by_epoch=False),
]
default_hooks = dict(checkpoint=dict(interval=100))
custom_hooks = [dict(type="EMAHook", ema_type="ExponentialMovingAverage", momentum=0.08, interval=8, begin_iter=warmup)]
work_dir = "work_dirs/clip_nano_guided_pretrain"
