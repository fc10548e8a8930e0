# Training of SED, ConvNeXt-B: `python tools/train.py configs/sed/sed_convnextb_train.py` (the paper: 4 photos in all).
# COCO-Stuff in `$OVSEG_DATA/coco_stuff164k`; mIoU of its val2017 every 5,000 iterations.
_base_ = ["../_base_/trained/sed.py", "../_base_/datasets/detectron2/coco_stuff_train.py"]
max_iters = 80000
model = dict(
    backbone=dict(weights="laion_aesthetic_s13b_b82k/convnext_base_w_320"),
    decoder=dict(weights=None),
    vocabulary=dict(file="coco_stuff"),
    loss=dict(type="BinaryMapLoss"),
    trained=["decoder.*", "backbone.clip.visual.*"],
)
train_dataloader = dict(
    batch_size=4,
    dataset=dict(
        pipeline=[
            dict(type="LoadImage"),
            dict(type="LoadMask"),
            dict(type="ResizeShortestEdge", short_side=768, max_long=2666, labels=True),
            dict(type="ColourJitter"),
            dict(type="CropAndPad", size=768),
            dict(type="Mirror"),
            dict(type="PackInputs"),
        ],
    ),
)
train_cfg = dict(max_iters=max_iters)
optim_wrapper = dict(
    optimizer=dict(lr=2e-4, weight_decay=1e-4),
    clip_grad=dict(max_norm=0.01),
    paramwise_cfg=dict(norm_decay_mult=0.0, custom_keys={"backbone": dict(lr_mult=0.01)}),
)
param_scheduler = [dict(type="CosineAnnealingLR", eta_min=0.0, T_max=max_iters, by_epoch=False)]
