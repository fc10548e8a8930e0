# Training of MaskCLIP+ on COCO-Stuff's photos:
# `python tools/train.py configs/maskclip_plus/maskclip_plus_resnet101_coco_stuff_train.py`
# Labels are MaskCLIP's, made on every crop; any method does: `--cfg-options model.teacher.attention.type=...`. Of the
# label maps only the ignored pixels are looked at. The ResNet starts from timm's file of `resnet101c.gluon_in1k`, to be
# named in model.student.decoder.network_checkpoint; without it from random weights.
_base_ = "../_base_/trained/maskclip_plus_train.py"
max_iters = 8000
model = dict(
    student=dict(vocabulary=dict(file="coco_stuff")),
    teacher=dict(windows=dict(crop=512, stride=512)),
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
        pipeline=[
            dict(type="LoadImage"),
            dict(type="LoadMask"),
            dict(type="ResizeShortestEdge", short_side=list(range(256, 1025, 32)), max_long=4096, labels=True),
            dict(type="CropAndPad", size=512, most_of_one=0.75),
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
        benchmark="coco_stuff",
        classes="coco_stuff",
        data_root="{{$OVSEG_DATA:data}}/coco_stuff164k",
        img_dir="images/val2017",
        mask_dir="annotations/val2017",
        mask_suffix="_labelTrainIds.png",
        pipeline=[
            dict(type="LoadImage"),
            dict(type="LoadMask"),
            dict(type="ResizeShortSide", short_side=512, max_long=2048),
            dict(type="PackInputs"),
        ],
    ),
)
param_scheduler = [dict(type="PolyLR", power=0.9, eta_min=1e-4, end=max_iters, by_epoch=False)]
