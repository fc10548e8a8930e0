# nano-photo on photos, with CLIPer (without diffusion), whole photo.
_base_ = ["../_base_/models/cliper.py", "../_base_/datasets/photos.py", "../_base_/runtime/eval.py"]
short_side = 288
test_dataloader = dict(
    dataset=dict(
        pipeline=[
            dict(type="LoadImage"),
            dict(type="LoadMask"),
            dict(type="ResizePIL", short_side=short_side, multiple_of=16),
            dict(type="PackInputs"),
        ]
    )
)
model = dict(
    backbone=dict(weights="nano-photo"),
    vocabulary=dict(file="voc21_photo", background=0),
    head=dict(threshold=0.6, score_threshold=0.7, normalise=True, background=0),
)
