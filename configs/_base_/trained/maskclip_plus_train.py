# Training of MaskCLIP+: MaskCLIP labels every crop, DeepLabv2 learns from it. A recipe names photos and words.
default_scope = "ovseg"
model = dict(
    type="PseudoLabelTrainer",
    student=dict(
        type="DecoderSegmentor",
        backbone=dict(type="ClipBackbone", weights="openai/ViT-B-16"),
        decoder=dict(type="DeepLabDecoder", network="resnet101c"),
        framing=dict(type="WholePhoto", pad_multiple=None, cut_padding=False, activation="none"),
        loss=dict(type="PixelLoss"),
        trained=["decoder.*"],
        supervision="CLIP: image-text pairs; ResNet: ImageNet's labels; DeepLab: images only, labelled by MaskCLIP",
    ),
    teacher=dict(
        type="OpenVocabSegmentor",
        backbone=dict(type="ClipBackbone", weights="openai/ViT-B-16"),
        attention=dict(type="ValueAttention", residual=True, ffn=True),
        windows=dict(crop=512, stride=512, pad_multiple=16),
    ),
)
train_dataloader = dict(
    batch_size=4,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type="InfiniteSampler", shuffle=True),
    collate_fn=dict(type="pseudo_collate"),
)
train_cfg = dict(type="IterBasedTrainLoop", val_interval=1000)
val_cfg = dict(type="ValLoop")
val_dataloader = dict(
    batch_size=1,
    num_workers=2,
    sampler=dict(type="DefaultSampler", shuffle=False),
    collate_fn=dict(type="pseudo_collate"),
)
val_evaluator = dict(type="SegMetric")
optim_wrapper = dict(
    type="OptimWrapper",
    optimizer=dict(type="SGD", lr=0.01, momentum=0.9, weight_decay=5e-4),
)
default_hooks = dict(
    logger=dict(type="LoggerHook", interval=50, log_metric_by_epoch=False),
    checkpoint=dict(type="CheckpointHook", interval=1000, by_epoch=False, max_keep_ckpts=2, save_last=True),
)
custom_hooks = [dict(type="TrainingPlanHook")]
log_processor = dict(by_epoch=False)
