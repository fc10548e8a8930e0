# COCO-Stuff's photos and zero-shot split (unseen: 15 of 171).
_base_ = "./recipe.py"
unseen = [
    "cow",
    "giraffe",
    "suitcase",
    "frisbee",
    "skateboard",
    "carrot",
    "scissors",
    "cardboard",
    "clouds",
    "grass",
    "playingfield",
    "river",
    "road",
    "tree",
    "wall-concrete",
]
max_iters = 80000
data_root = "{{$OVSEG_DATA:data}}/coco_stuff164k"
train_dataloader = dict(
    dataset=dict(
        classes="coco_stuff",
        data_root=data_root,
        img_dir="images/train2017",
        mask_dir="annotations/train2017",
        mask_suffix="_labelTrainIds.png",
    ),
)
val_dataloader = dict(
    dataset=dict(
        benchmark="coco_stuff",
        classes="coco_stuff",
        data_root=data_root,
        img_dir="images/val2017",
        mask_dir="annotations/val2017",
        mask_suffix="_labelTrainIds.png",
    ),
)
val_evaluator = dict(type="SplitMetric", unseen=unseen)
train_cfg = dict(max_iters=max_iters, val_interval=5000)
param_scheduler = [
    {{_base_.warm_up}},
    dict(type="PolyLR", power=0.9, eta_min=1e-6, begin=1500, end=max_iters, by_epoch=False),
]
