# Training of SAM-CLIP, first stage: `python tools/train.py
# configs/sam_clip_merged/sam_clip_merged_vitb16_stage1_train.py`. SAM's encoder is frozen, the CLIP head
# learns the embeddings that a CLIP gives the photos. Photos without labels in `$OVSEG_DATA/photos_for_clip` (the paper:
# about 40 million), each at a side of 224 to 448 pixels.
_base_ = "../_base_/trained/sam_clip_merged_train.py"
max_iters = 100_000
model = dict(trained=["head.*"])
train_dataloader = dict(
    batch_size=64,
    num_workers=8,
    dataset=dict(
        type="SegmentationDataset",
        classes=("photo",),
        data_root="{{$OVSEG_DATA:data}}/photos_for_clip",
        img_dir="",
        mask_dir=None,
        on_error="raise",
        pipeline=[
            dict(type="LoadImage"),
            dict(type="ResizePIL", short_side=(224, 336, 448), center_crop=True),
            dict(type="PackInputs"),
        ],
    ),
)
train_cfg = dict(max_iters=max_iters, val_interval=10_000)
optim_wrapper = dict(optimizer=dict(lr=4e-4))
param_scheduler = [
    dict(type="LinearLR", start_factor=1e-3, begin=0, end=1000, by_epoch=False),
    dict(type="CosineAnnealingLR", eta_min=0.0, begin=1000, end=max_iters, by_epoch=False),
]
work_dir = "work_dirs/sam_clip_merged_vitb16_stage1_train"
