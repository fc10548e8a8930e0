# OVSeg's mask-adapted CLIP at nano's scale: `python tools/train.py configs/nano/ovseg_adapted_nano_train.py`, sprites
# first (`python -m ovseg.nano.sprites fetch`). nano's image tower learns masked crops of 129 object words and 8
# grounds; 43 object words are held out. Next: ovseg_mpt_nano_train.py.
_base_ = ["../_base_/trained/nano_scenes_train.py"]
max_iters = 1500
model = dict(
    type="MaskAdaptationTrainer",
    backbone=dict(type="ClipBackbone", weights="nano", pos_embed="size"),
    trained=["backbone.clip.visual.*", "backbone.clip.logit_scale"],
    prompt_depth=0,
)
train_dataloader = dict(
    batch_size=64,
    dataset=dict(
        style=dict(edge=(36, 150), items=(1, 4)),
        pipeline=[dict(type="NounCrop", classes="{{ fileDirname }}/../../data/scenes/seen.txt", size=112)],
    ),
)
train_cfg = dict(max_iters=max_iters)
val_cfg = None
val_dataloader = None
val_evaluator = None
optim_wrapper = dict(
    optimizer=dict(lr=1e-4, weight_decay=0.2),
    paramwise_cfg=dict(_delete_=True, norm_decay_mult=0.0),
)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.05, begin=0, end=50, by_epoch=False),
    dict(type="CosineAnnealingLR", eta_min=1e-6, begin=50, end=max_iters, by_epoch=False),
]
work_dir = "work_dirs/ovseg_adapted_nano_train"
