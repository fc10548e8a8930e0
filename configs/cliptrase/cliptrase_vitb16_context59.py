# Context59 with CLIPtrase at 224 px, OpenAI ViT-B/16; labels are judged on the central square.
_base_ = ["../_base_/models/cliptrase.py", "../_base_/datasets/context59.py", "../_base_/runtime/eval.py"]
short_side = 224
test_dataloader = dict(
    dataset=dict(
        pipeline=[
            dict(type="LoadImage"),
            dict(type="LoadMask"),
            dict(type="ResizePIL", short_side=short_side, center_crop=True),
            dict(type="PackInputs"),
        ]
    )
)
model = dict(
    vocabulary=dict(file="context59"),
)
