# Context59's photos and zero-shot split (unseen: 0, 2, 3, 7, 9, 13, 17, 19, 31, 37 where VOC's 20 classes come before
# the others: so the ten are those that zero-shot papers name, which the indices in the alphabetical order are not).
_base_ = "./recipe.py"
unseen = [
    "aeroplane",
    "bird",
    "boat",
    "cat",
    "cow",
    "fence",
    "keyboard",
    "motorbike",
    "sofa",
    "tvmonitor",
]
max_iters = 40000
data_root = "{{$OVSEG_DATA:data}}/VOCdevkit/VOC2010"
train_dataloader = dict(
    dataset=dict(
        classes="context59",
        data_root=data_root,
        img_dir="JPEGImages",
        mask_dir="SegmentationClassContext",
        split="ImageSets/SegmentationContext/train.txt",
        reduce_zero_label=True,
    ),
)
val_dataloader = dict(
    dataset=dict(
        benchmark="context59",
        classes="context59",
        data_root=data_root,
        img_dir="JPEGImages",
        mask_dir="SegmentationClassContext",
        split="ImageSets/SegmentationContext/val.txt",
        reduce_zero_label=True,
    ),
)
val_evaluator = dict(type="SplitMetric", unseen=unseen)
train_cfg = dict(max_iters=max_iters, val_interval=5000)
param_scheduler = [
    {{_base_.warm_up}},
    dict(type="PolyLR", power=0.9, eta_min=1e-6, begin=1500, end=max_iters, by_epoch=False),
]
