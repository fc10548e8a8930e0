# Training of CAT-Seg, large, on COCO-Stuff's 118,287 training photos, as published: `python tools/train.py` with this.
# 80,000 iterations of 4 photos; of CLIP, the query and value projections of both towers train. fp32; on a GPU --amp.
_base_ = [
    "../_base_/trained/catseg_large.py",
    "../_base_/runtime/decoder_train.py",
]
max_iters = 80000
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
    backbone=dict(weights="openai/ViT-L-14-336", split_projections=True),
    decoder=dict(weights=None, pooling=2),
    # during a training the published one judges by a single pass over the squeezed photo
    framing=dict(_delete_=True, type="WholePhoto", side=336, cut_padding=False),
    training_framing=dict(type="WholePhoto", side=336, cut_padding=False),
    loss=dict(type="BinaryMapLoss"),
    trained=["decoder.*", "backbone.clip.*.attn.[qv]_proj_weight"],
    vocabulary=dict(file="coco_stuff"),
    text_cache=False,
)
train_dataloader = dict(
    dataset=dict(
        type="SegmentationDataset",
        classes="coco_stuff",
        data_root="{{$OVSEG_DATA:data}}/coco_stuff164k",
        img_dir="images/train2017",
        mask_dir="annotations/train2017",
        mask_suffix="_labelTrainIds.png",
        on_error="raise",
        pipeline=training_pipeline,
    ),
)
val_dataloader = dict(
    dataset=dict(
        type="SegmentationDataset",
        benchmark="coco_stuff",
        classes="coco_stuff",
        data_root="{{$OVSEG_DATA:data}}/coco_stuff164k",
        img_dir="images/val2017",
        mask_dir="annotations/val2017",
        mask_suffix="_labelTrainIds.png",
        pipeline=[
            dict(type="LoadImage"),
            dict(type="LoadMask"),
            dict(type="ResizeShortestEdge", short_side=640, max_long=2560),
            dict(type="PackInputs"),
        ],
    ),
)
train_cfg = dict(max_iters=max_iters, val_interval=5000)
optim_wrapper = dict(
    optimizer=dict(lr=2e-4, weight_decay=1e-4),
    clip_grad=dict(max_norm=0.01),
    paramwise_cfg=dict(custom_keys={"backbone.clip": dict(lr_mult=0.01)}),
)
param_scheduler = [dict(type="CosineAnnealingLR", by_epoch=False, eta_min=0.0, begin=0, end=max_iters)]
