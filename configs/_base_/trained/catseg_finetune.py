# Finetuning CAT-Seg on a folder of one's own, from the released weights; see configs/finetune/.
_base_ = ["./catseg.py", "../runtime/decoder_train.py"]
max_iters = 2000
crop = 384
training_pipeline = [
    dict(type="LoadImage"),
    dict(type="LoadMask"),
    dict(type="ResizeShortestEdge", short_side=crop, max_long=1333, labels=True),
    dict(type="CropAndPad", size=crop),
    dict(type="ColourJitter"),
    dict(type="Mirror"),
    dict(type="PackInputs"),
]
model = dict(
    backbone=dict(split_projections=True),
    training_framing=dict(type="WholePhoto", side=crop, cut_padding=False),
    loss=dict(type="BinaryMapLoss", ignore=True),
    trained=["decoder.*", "backbone.clip.*.attn.[qv]_proj_weight"],
    text_cache=False,
)
train_dataloader = dict(
    batch_size=2,
    dataset=dict(type="SegmentationDataset", on_error="raise", pipeline=training_pipeline),
)
val_dataloader = dict(
    dataset=dict(
        type="SegmentationDataset",
        pipeline=[
            dict(type="LoadImage"),
            dict(type="LoadMask"),
            dict(type="ResizeShortestEdge", short_side=640, max_long=2560),
            dict(type="PackInputs"),
        ],
    ),
)
train_cfg = dict(max_iters=max_iters, val_interval=500)
optim_wrapper = dict(
    optimizer=dict(lr=1e-4, weight_decay=1e-4),
    clip_grad=dict(max_norm=0.01),
    paramwise_cfg=dict(custom_keys={"backbone.clip": dict(lr_mult=0.01)}),
)
param_scheduler = [dict(type="CosineAnnealingLR", by_epoch=False, eta_min=0.0, begin=0, end=max_iters)]
default_hooks = dict(checkpoint=dict(interval=500))
