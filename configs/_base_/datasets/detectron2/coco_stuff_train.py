# Training on COCO-Stuff 164k train2017 (118,287 photos, 171 classes), validation on val2017 with detectron2's resizing.
# A recipe gives the data set its pipeline: detectron2's is resizing, a crop, SSD's colours, a mirror, padding.
_base_ = "./coco_stuff.py"
default_scope = "ovseg"
train_dataloader = dict(
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type="InfiniteSampler", shuffle=True),
    collate_fn=dict(type="pseudo_collate"),
    dataset=dict(
        type="SegmentationDataset",
        classes="coco_stuff",
        data_root="{{$OVSEG_DATA:data}}/coco_stuff164k",
        img_dir="images/train2017",
        mask_dir="annotations/train2017",
        mask_suffix="_labelTrainIds.png",
        on_error="raise",
    ),
)
train_cfg = dict(type="IterBasedTrainLoop", val_interval=5000)
val_cfg = dict(type="ValLoop")
val_dataloader = dict(
    batch_size=1,
    num_workers=2,
    sampler=dict(type="DefaultSampler", shuffle=False),
    collate_fn=dict(type="pseudo_collate"),
    dataset={{_base_.test_dataloader.dataset}},
)
val_evaluator = dict(type="SegMetric")
test_dataloader = None
test_evaluator = None
optim_wrapper = dict(type="OptimWrapper", constructor="TrainedParameters", optimizer=dict(type="AdamW"))
default_hooks = dict(
    logger=dict(type="LoggerHook", interval=50, log_metric_by_epoch=False),
    checkpoint=dict(type="CheckpointHook", interval=5000, by_epoch=False, max_keep_ckpts=2, save_last=True),
)
custom_hooks = [dict(type="TrainingPlanHook")]
log_processor = dict(by_epoch=False)
