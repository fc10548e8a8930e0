# nano-photo on photos with CorrCLIPv2 without a bank: SLIC superpixels, the stem's features of the whole photo.
_base_ = ["../_base_/models/corrclipv2.py", "../_base_/datasets/photos.py", "../_base_/runtime/eval.py"]
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
    guide=dict(source=dict(_delete_=True, type="StemGuide", strides=(16, 32)), scale=1),
    regions=dict(_delete_=True, type="SlicRegions", segments=60),
    # Three blocks: the spatial branch has one layer.
    attention=dict(spatial_layers=1),
    vocabulary=dict(file="voc21_photo", background=0),
    windows=dict(crop=256, stride=64, batch=16, pad_multiple=16),
    head=dict(logit_scale=12, threshold=0.15),
)
