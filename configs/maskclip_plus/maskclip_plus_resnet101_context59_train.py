# Training of MaskCLIP+ on Context59's photos:
# `python tools/train.py configs/maskclip_plus/maskclip_plus_resnet101_context59_train.py`
# Labels are MaskCLIP's, made on every crop; any method does: `--cfg-options model.teacher.attention.type=...`. Of the
# label maps only the ignored pixels are looked at. The ResNet starts from timm's file of `resnet101c.gluon_in1k`, to be
# named in model.student.decoder.network_checkpoint; without it from random weights.
_base_ = "../_base_/trained/maskclip_plus_train.py"
max_iters = 4000
model = dict(
    student=dict(vocabulary=dict(file="context59")),
    teacher=dict(windows=dict(crop=480, stride=480)),
)
train_dataloader = dict(
    dataset=dict(
        type="SegmentationDataset",
        classes="context59",
        data_root="{{$OVSEG_DATA:data}}/VOCdevkit/VOC2010",
        img_dir="JPEGImages",
        mask_dir="SegmentationClassContext",
        split="ImageSets/SegmentationContext/train.txt",
        reduce_zero_label=True,
        on_error="raise",
        pipeline=[
            dict(type="LoadImage"),
            dict(type="LoadMask"),
            dict(type="ResizeShortestEdge", short_side=list(range(260, 1041, 32)), max_long=4096, labels=True),
            dict(type="CropAndPad", size=480, most_of_one=0.75),
            dict(type="Mirror"),
            dict(type="ColourJitter"),
            dict(type="PackInputs"),
        ],
    ),
)
train_cfg = dict(max_iters=max_iters)
val_dataloader = dict(
    dataset=dict(
        type="SegmentationDataset",
        benchmark="context59",
        classes="context59",
        data_root="{{$OVSEG_DATA:data}}/VOCdevkit/VOC2010",
        img_dir="JPEGImages",
        mask_dir="SegmentationClassContext",
        split="ImageSets/SegmentationContext/val.txt",
        reduce_zero_label=True,
        pipeline=[
            dict(type="LoadImage"),
            dict(type="LoadMask"),
            dict(type="ResizeShortSide", short_side=520, max_long=2048),
            dict(type="PackInputs"),
        ],
    ),
)
param_scheduler = [dict(type="PolyLR", power=0.9, eta_min=1e-4, end=max_iters, by_epoch=False)]
