# MESS Potsdam with VIP, dino.txt on DINOv3 ViT-L/16.
# The settings are those of the paper's Potsdam, whose tiles and colours (here infrared, red, green) may be others.
_base_ = ["../_base_/models/vip.py", "../_base_/datasets/mess_isprs_potsdam.py", "../_base_/runtime/eval.py"]
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
    stitch=dict(tau=1, temperature=2),
    head=dict(threshold=0.25, background=5),
)
