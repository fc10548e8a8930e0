# VOC20's photos and zero-shot split (unseen: the last five).
_base_ = "./recipe.py"
unseen = ["pottedplant", "sheep", "sofa", "train", "tvmonitor"]
unseen_words = ["potted plant", "sheep", "sofa", "train", "tvmonitor"]  # as the vocabulary writes them
max_iters = 20000
data_root = "{{$OVSEG_DATA:data}}/VOCdevkit/VOC2012"
train_dataloader = dict(
    dataset=dict(
        classes="voc20",
        data_root=data_root,
        img_dir="JPEGImages",
        mask_dir="SegmentationClass",
        split="ImageSets/Segmentation/train.txt",
        reduce_zero_label=True,
    ),
)
val_dataloader = dict(
    dataset=dict(
        benchmark="voc20",
        classes="voc20",
        data_root=data_root,
        img_dir="JPEGImages",
        mask_dir="SegmentationClass",
        split="ImageSets/Segmentation/val.txt",
        reduce_zero_label=True,
    ),
)
val_evaluator = dict(type="SplitMetric", unseen=unseen)
train_cfg = dict(max_iters=max_iters, val_interval=5000)
param_scheduler = [
    {{_base_.warm_up}},
    dict(type="PolyLR", power=0.9, eta_min=1e-6, begin=1500, end=max_iters, by_epoch=False),
]
