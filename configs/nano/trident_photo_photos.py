# nano-photo on photos, with Trident: the stem's features splice, nano's SAM (of drawings) aggregates and redraws.
_base_ = ["../_base_/models/trident.py", "../_base_/datasets/photos.py", "../_base_/runtime/eval.py"]
short_side = 288
test_dataloader = dict(
    dataset=dict(
        pipeline=[
            dict(type="LoadImage"),
            dict(type="LoadMask"),
            dict(type="ResizeShortSide", short_side=short_side, max_long=2048),
            dict(type="PackInputs", keys=("original",)),
        ]
    )
)
model = dict(
    backbone=dict(weights="nano-photo"),
    guide=dict(_delete_=True, type="StemGuide", strides=(8, 16)),
    attention=dict(gamma=6),  # as in proxyclip_photo_photos.py
    photo_encoder=dict(weights="nano_sam", tiles=(2, 2)),
    stitch=dict(cos_factor=99.0, cap=0.98),
    label_refiners=[
        # The mask prompt with its batch axis: nano's SAM never saw the official code's other one.
        dict(type="SamPromptRefiner", coarse_threshold=0.2, iou_threshold=0.5, min_area=225, unbatched_mask=False)
    ],
    vocabulary=dict(file="voc21_photo", background=0),
    windows=dict(crop=256, stride=64, batch=16),
    head=dict(logit_scale=12, threshold=0.15),
)
