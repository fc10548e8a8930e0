# nano's guide from images alone: `python tools/train.py configs/nano/guide_nano_pretrain.py`
# after `python -m ovseg.nano.sprites fetch`, then `python -m ovseg.nano.export CHECKPOINT --part guide`.
# One CPU core took 27 minutes; set OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE and leave another one to the loader.
_base_ = ["../_base_/runtime/nano_pretrain.py"]
max_iters = 1500
warmup = 60

model = dict(type="GuidePretrainer", guide="nano/guide.json")

train_dataloader = dict(
    batch_size=40,
    collate_fn=dict(type="stack_views"),
    dataset=dict(
        type="SceneViews",
        size=80,
        scale=(64, 128),
        photos=dict(
            type="ScenePhotos",
            sprites="{{$OVSEG_DATA:data}}/sprites/fluent.npz",
            size=160,
            seed=7,
            style=dict(edge=(50, 170), items=(2, 5), margin=0.0),
        ),
    ),
)
train_cfg = dict(max_iters=max_iters, val_interval=max_iters)

optim_wrapper = dict(optimizer=dict(lr=1e-3, betas=(0.9, 0.98), weight_decay=0.05))
param_scheduler = [
    dict(type="LinearLR", start_factor=0.02, begin=0, end=warmup, by_epoch=False),
    dict(type="CosineAnnealingLR", eta_min=1e-5, begin=warmup, end=max_iters, by_epoch=False),
]

default_hooks = dict(checkpoint=dict(max_keep_ckpts=5))
work_dir = "work_dirs/guide_nano_pretrain"
