# Training of MaskCLIP+ on VOC20's photos:
# `python tools/train.py configs/maskclip_plus/maskclip_plus_resnet101_voc20_train.py`
# Labels are MaskCLIP's, made on every crop; any method does: `--cfg-options model.teacher.attention.type=...`. Of the
# label maps only the ignored pixels are looked at. The ResNet starts from timm's file of `resnet101c.gluon_in1k`, to be
# named in model.student.decoder.network_checkpoint; without it from random weights.
_base_ = "../_base_/trained/maskclip_plus_train.py"
max_iters = 2000
model = dict(
    student=dict(vocabulary=dict(file="voc20")),
    teacher=dict(windows=dict(crop=512, stride=512)),
)
train_dataloader = dict(
    dataset=dict(
        type="SegmentationDataset",
        classes="voc20",
        data_root="{{$OVSEG_DATA:data}}/VOCdevkit/VOC2012",
        img_dir="JPEGImages",
        mask_dir="SegmentationClass",
        split="ImageSets/Segmentation/train.txt",
        reduce_zero_label=True,
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
        benchmark="voc20",
        classes="voc20",
        data_root="{{$OVSEG_DATA:data}}/VOCdevkit/VOC2012",
        img_dir="JPEGImages",
        mask_dir="SegmentationClass",
        split="ImageSets/Segmentation/val.txt",
        reduce_zero_label=True,
        pipeline=[
            dict(type="LoadImage"),
            dict(type="LoadMask"),
            dict(type="ResizeShortSide", short_side=512, max_long=2048),
            dict(type="PackInputs"),
        ],
    ),
)
param_scheduler = [dict(type="PolyLR", power=0.9, eta_min=1e-4, end=max_iters, by_epoch=False)]
