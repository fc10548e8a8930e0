# What the pretrainings of nano's CLIP, guide and SAM share beyond nano_train.py.
_base_ = ["./nano_train.py"]
train_dataloader = dict(prefetch_factor=4)
optim_wrapper = dict(
    optimizer=dict(fused=True),
    clip_grad=dict(max_norm=2.0),
    paramwise_cfg=dict(norm_decay_mult=0.0, bias_decay_mult=0.0),
)
