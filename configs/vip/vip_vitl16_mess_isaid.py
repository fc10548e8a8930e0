# MESS iSAID with VIP, dino.txt on DINOv3 ViT-L/16.
# The settings are those of the paper's iSAID, whose tiles may be cut otherwise.
_base_ = ["../_base_/models/vip.py", "../_base_/datasets/mess_isaid.py", "../_base_/runtime/eval.py"]
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
    vocabulary=dict(file="mess_isaid", background=0),
    stitch=dict(tau=4, temperature=1),
    head=dict(threshold=0.3, background=0),
)
