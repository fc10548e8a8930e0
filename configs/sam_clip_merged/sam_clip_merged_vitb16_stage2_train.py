# Training of SAM-CLIP, second stage, from the file of the first: `python tools/train.py
# configs/sam_clip_merged/sam_clip_merged_vitb16_stage2_train.py --cfg-options load_from=FILE`. Encoder, mask
# decoder and head learn together; encoder and mask decoder at a tenth of the head's rate. Beside the photos of the
# first stage come some of SA-1B's in `$OVSEG_DATA/photos_for_sam` (the paper: 5.7 % of them), at 1024 pixels, with
# random points: SAM as it was says what these mean.
_base_ = "./sam_clip_merged_vitb16_stage1_train.py"
load_from = "work_dirs/sam_clip_merged_vitb16_stage1_train/iter_100000.pth"
model = dict(
    clip_weight=1.0,
    sam_weight=10.0,
    trained=[
        "head.*",
        "sam.image_encoder.*",
        "sam.mask_decoder.transformer.*",
        "sam.mask_decoder.iou_token.*",
        "sam.mask_decoder.mask_tokens.*",
        "sam.mask_decoder.output_upscaling.*",
        "sam.mask_decoder.output_hypernetworks_mlps.[1-3].*",  # of the three masks of a point
    ],
)
train_dataloader = dict(
    batch_size=16,
    dataset=dict(
        _delete_=True,
        type="PairedDataset",
        first=dict(
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
        second=dict(
            type="SegmentationDataset",
            classes=("photo",),
            data_root="{{$OVSEG_DATA:data}}/photos_for_sam",
            img_dir="",
            mask_dir=None,
            on_error="raise",
            pipeline=[
                dict(type="LoadImage"),
                dict(type="PointPrompts", count=32, side=1024),
                dict(type="PackInputs", keys=("points",)),
            ],
        ),
    ),
)
optim_wrapper = dict(
    optimizer=dict(lr=4e-4),
    paramwise_cfg=dict(custom_keys={"sam.": dict(lr_mult=0.1)}),
)
work_dir = "work_dirs/sam_clip_merged_vitb16_stage2_train"
