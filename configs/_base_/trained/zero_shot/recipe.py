# How ZegCLIP and Cascade-CLIP are trained: 4 GPUs with 4 crops of 512 pixels each. The papers' 2e-5 is ten times that
# for every part that trains.
_base_ = "../../runtime/decoder_train.py"
train_pipeline = [
    dict(type="LoadImage"),
    dict(type="LoadMask"),
    dict(type="ResizeShortestEdge", short_side=list(range(256, 1025, 32)), max_long=4096, labels=True),
    dict(type="CropAndPad", size=512, most_of_one=0.75),
    dict(type="Mirror"),
    dict(type="ColourJitter"),
    dict(type="PackInputs"),
]
val_pipeline = [
    dict(type="LoadImage"),
    dict(type="LoadMask"),
    dict(type="ResizeShortSide", short_side=512, max_long=2048),
    dict(type="PackInputs"),
]
train_dataloader = dict(
    batch_size=4, dataset=dict(type="SegmentationDataset", on_error="raise", pipeline=train_pipeline)
)
val_dataloader = dict(dataset=dict(type="SegmentationDataset", pipeline=val_pipeline))
optim_wrapper = dict(optimizer=dict(lr=2e-4, weight_decay=0.01), paramwise_cfg=dict(norm_decay_mult=0.0))
warm_up = dict(type="LinearLR", start_factor=1e-6, begin=0, end=1500, by_epoch=False)
