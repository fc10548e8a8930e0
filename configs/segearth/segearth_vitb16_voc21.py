# VOC21 with SegEarth-OV and its upsampler, OpenAI ViT-B/16. Not in the paper, whose photos are taken from above.
_base_ = ["../_base_/models/segearth.py", "../_base_/datasets/voc21.py", "../_base_/runtime/eval.py"]
short_side = 448
test_dataloader = dict(
    dataset=dict(
        pipeline=[
            dict(type="LoadImage"),
            dict(type="LoadMask"),
            dict(type="ResizeShortSide", short_side=short_side, max_long=448),
            dict(type="PackInputs"),
        ]
    )
)
model = dict(
    vocabulary=dict(file="voc21_clearclip", background=0),
    head=dict(threshold=0.3),
)
