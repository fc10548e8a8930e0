# What finetuning on a folder of one's own shares (`folder`); see configs/finetune/.
_base_ = "../runtime/decoder_train.py"
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
param_scheduler = [dict(type="CosineAnnealingLR", by_epoch=False, eta_min=0.0, begin=0, end=max_iters)]
default_hooks = dict(checkpoint=dict(interval=500))
