# OVSeg's mask prompts at nano's scale: after ovseg_adapted_nano_train.py, whose weights are put half of the way from
# nano's (`tools/publish_decoder.py CONFIG CHECKPOINT data/nano_adapted.safetensors --layout overlay --share 0.5`),
# `python tools/train.py configs/nano/ovseg_mpt_nano_train.py`: CLIP stays, the prompts of three blocks are learned.
_base_ = ["./ovseg_adapted_nano_train.py"]
max_iters = 400
model = dict(
    backbone=dict(weights="nano_ovseg_mpt", checkpoint="{{$OVSEG_DATA:data}}/nano_adapted.safetensors"),
    trained=["mask_embedding", "backbone.clip.logit_scale"],
    prompt_depth=3,
)
train_cfg = dict(max_iters=max_iters)
optim_wrapper = dict(optimizer=dict(lr=0.01, weight_decay=0.0))
param_scheduler = [
    dict(type="LinearLR", start_factor=0.01, begin=0, end=50, by_epoch=False),
    dict(type="CosineAnnealingLR", eta_min=0.0, begin=50, end=max_iters, by_epoch=False),
]
work_dir = "work_dirs/ovseg_mpt_nano_train"
