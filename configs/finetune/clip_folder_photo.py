# CLIP on your own photos by LoRA, from nano-photo, which comes with ovseg.
# python tools/train.py configs/finetune/clip_folder_photo.py --cfg-options folder.root=DIR folder.classes=FILE
_base_ = "../_base_/trained/clip_finetune.py"
folder = dict(root="data/folder", classes="data/folder/classes.txt")
max_iters = 600
model = dict(
    backbone=dict(weights="nano-photo"),
    decoder=dict(logit_scale=12.0),
    framing=dict(crop=256, stride=128),
    training_framing=dict(side=256),
)
train_dataloader = dict(batch_size=4)
train_cfg = dict(max_iters=max_iters, val_interval=200)
optim_wrapper = dict(optimizer=dict(lr=1e-3))
param_scheduler = [dict(type="CosineAnnealingLR", by_epoch=False, eta_min=0.0, begin=0, end=max_iters)]
