# Training of DenseCLIP on ADE20K: `python tools/train.py configs/denseclip/denseclip_vitb16_ade20k_train.py`
# (the paper: a batch of 32 crops of 640 pixels over all GPUs, 80,000 iterations). Training photos and label maps in
# `$OVSEG_DATA/ade/ADEChallengeData2016/{images,annotations}/training`.
_base_ = ["../_base_/trained/denseclip.py", "../_base_/runtime/decoder_train.py"]
max_iters = 80000
_data = dict(
    type="SegmentationDataset",
    classes="ade20k",
    data_root="{{$OVSEG_DATA:data}}/ade/ADEChallengeData2016",
    reduce_zero_label=True,
)
model = dict(
    decoder=dict(classes=150),
    vocabulary=dict(file="ade20k"),
    training_framing=dict(type="WholePhoto", pad_multiple=None, cut_padding=False, activation="none"),
    loss=dict(type="PixelLoss", auxiliary_weight=0.4),
    trained=["decoder.*", "backbone.clip.visual.*"],
)
train_dataloader = dict(
    batch_size=4,
    dataset=dict(
        **_data,
        img_dir="images/training",
        mask_dir="annotations/training",
        on_error="raise",
        pipeline=[
            dict(type="LoadImage"),
            dict(type="LoadMask"),
            dict(type="ResizeShortestEdge", short_side=list(range(320, 1281, 32)), max_long=5120, labels=True),
            dict(type="CropAndPad", size=640, most_of_one=0.75),
            dict(type="Mirror"),
            dict(type="ColourJitter"),
            dict(type="PackInputs"),
        ],
    ),
)
val_dataloader = dict(
    dataset=dict(
        **_data,
        benchmark="ade20k",
        img_dir="images/validation",
        mask_dir="annotations/validation",
        pipeline=[
            dict(type="LoadImage"),
            dict(type="LoadMask"),
            dict(type="ResizeShortSide", short_side=640, max_long=2560),
            dict(type="PackInputs"),
        ],
    ),
)
train_cfg = dict(max_iters=max_iters, val_interval=8000)
optim_wrapper = dict(
    optimizer=dict(lr=1e-4, weight_decay=1e-4),
    paramwise_cfg=dict(custom_keys={"backbone.clip": dict(lr_mult=0.1)}),
)
param_scheduler = [
    dict(type="LinearLR", start_factor=1e-6, begin=0, end=1500, by_epoch=False),
    dict(type="PolyLR", power=0.9, eta_min=0.0, begin=1500, end=max_iters, by_epoch=False),
]
