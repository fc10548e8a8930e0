# MESS Potsdam with SegEarth-OV and its upsampler, OpenAI ViT-B/16.
# The settings are those of the paper's Potsdam, whose tiles and colours (here infrared, red, green) may be others.
_base_ = ["../_base_/models/segearth.py", "../_base_/datasets/mess_isprs_potsdam.py", "../_base_/runtime/eval.py"]
short_side = 448
test_dataloader = dict(
    dataset=dict(
        pipeline=[
            dict(type="LoadImage"),
            dict(type="LoadMask"),
            dict(type="ResizeShortSide", short_side=short_side, max_long=448),  # the long side, that is
            dict(type="PackInputs"),
        ]
    )
)
model = dict(
    vocabulary=dict(file="mess_isprs_potsdam", background=5),
    head=dict(threshold=0.1, background=5),
)
