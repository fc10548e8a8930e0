# Training of CLIP-DINOiser's heads: `python tools/train.py configs/clip_dinoiser/clip_dinoiser_vitb16_train.py`.
# Photos without labels (the paper: 1,000 of ImageNet) in `$OVSEG_DATA/imagenet_subset`; CLIP and DINO stay frozen.
# Validation mIoU on VOC21 after every 500 iterations; `--resume` goes on from the last checkpoint. The last checkpoint
# is also published without optimiser, in the layout of the official file: give it as `attention.checkpoint`.
_base_ = ["../_base_/datasets/voc21.py"]
default_scope = "ovseg"
max_iters = 2500
short_side = 448

model = dict(
    type="DinoiserTrainer",
    student=dict(
        type="OpenVocabSegmentor",
        backbone=dict(type="ClipBackbone", weights="laion2b_s34b_b88k/ViT-B-16", pos_embed="size"),
        attention=dict(type="DinoiserAttention", heads=None, width=768),
        vocabulary=dict(file="voc21_maskclip", background=0),
        windows=dict(crop=448, stride=224, pad_multiple=16, pad_mode="end", pad_value="black"),
        probability_scale=100,
        head=dict(type="MaxQueryHead", softmax=False),
        supervision="CLIP: image-text pairs; CLIP-DINOiser heads: images only, taught by DINO and FOUND",
    ),
    teacher=dict(type="DinoBackbone", weights="dino/vitb16", feature="v", pos_embed="scale"),
)

train_dataloader = dict(
    batch_size=16,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type="InfiniteSampler", shuffle=True),
    collate_fn=dict(type="pseudo_collate"),
    dataset=dict(
        type="SegmentationDataset",
        classes=("photo",),
        data_root="{{$OVSEG_DATA:data}}/imagenet_subset",
        img_dir=".",
        img_suffix=(".jpg", ".JPEG", ".jpeg", ".png"),
        mask_dir=None,
        on_error="raise",
        pipeline=[dict(type="LoadImage"), dict(type="RandomView", size=448), dict(type="PackInputs")],
    ),
)
train_cfg = dict(type="IterBasedTrainLoop", max_iters=max_iters, val_interval=500)
val_cfg = dict(type="ValLoop")
val_dataloader = dict(
    batch_size=1,
    num_workers=2,
    sampler=dict(type="DefaultSampler", shuffle=False),
    collate_fn=dict(type="pseudo_collate"),
    dataset=dict(
        type="SegmentationDataset",
        benchmark="voc21",
        classes="voc21",
        data_root="{{$OVSEG_DATA:data}}/VOCdevkit/VOC2012",
        img_dir="JPEGImages",
        mask_dir="SegmentationClass",
        split="ImageSets/Segmentation/val.txt",
        pipeline=[
            dict(type="LoadImage"),
            dict(type="LoadMask"),
            dict(type="ResizeShortSide", short_side=short_side, max_long=2048),
            dict(type="PackInputs"),
        ],
    ),
)
val_evaluator = dict(type="SegMetric")
test_dataloader = None
test_evaluator = None

optim_wrapper = dict(type="OptimWrapper", optimizer=dict(type="AdamW", lr=5e-5, weight_decay=0.01))
param_scheduler = [dict(type="MultiStepLR", by_epoch=False, milestones=[1500], gamma=0.1)]
default_hooks = dict(
    logger=dict(type="LoggerHook", interval=20, log_metric_by_epoch=False),
    checkpoint=dict(
        type="CheckpointHook",
        interval=500,
        by_epoch=False,
        max_keep_ckpts=2,
        save_last=True,
        published_keys=["state_dict"],
    ),
)
