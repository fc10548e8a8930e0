# Training of SAN, OpenAI ViT-B/16: `python tools/train.py configs/san/san_vitb16_train.py --amp` (the paper: 8 GPUs
# with 4 photos each, mixed precision). COCO-Stuff in `$OVSEG_DATA/coco_stuff164k`; mIoU of its val2017 every 5,000 its.
_base_ = ["../_base_/trained/san.py", "../_base_/datasets/detectron2/coco_stuff_train.py"]
max_iters = 60000
model = dict(
    backbone=dict(weights="openai/ViT-B-16"),
    decoder=dict(weights=None),
    vocabulary=dict(file="coco_stuff"),
    loss=dict(type="MaskSetLoss"),
    trained=["decoder.*", "backbone.clip.visual.positional_embedding"],
)
train_dataloader = dict(
    batch_size=4,
    dataset=dict(
        pipeline=[
            dict(type="LoadImage"),
            dict(type="LoadMask"),
            dict(type="ResizeShortestEdge", short_side=list(range(320, 961, 64)), max_long=2560, labels=True),
            dict(type="ColourJitter"),
            dict(type="CropAndPad", size=640),
            dict(type="Mirror"),
            dict(type="PackInputs"),
        ],
    ),
)
train_cfg = dict(max_iters=max_iters)
optim_wrapper = dict(
    optimizer=dict(lr=1e-4, weight_decay=1e-4),
    clip_grad=dict(max_norm=0.01),
    paramwise_cfg=dict(
        norm_decay_mult=0.0,
        custom_keys={
            "fusion_layers": dict(decay_mult=1.0),  # the authors' own class of norm is decayed
            "positional_embedding": dict(decay_mult=0.0),
            "pos_embed": dict(decay_mult=0.0),
            "query_embed": dict(decay_mult=0.0),
        },
    ),
)
param_scheduler = [dict(type="PolyLR", power=0.9, eta_min=0.0, end=max_iters, by_epoch=False)]
