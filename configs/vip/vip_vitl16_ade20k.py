# ADE20K with VIP, dino.txt on DINOv3 ViT-L/16.
_base_ = ["../_base_/models/vip.py", "../_base_/datasets/ade20k.py", "../_base_/runtime/eval.py"]
short_side = 336
model = dict(
    vocabulary=dict(file="ade20k"),
    stitch=dict(tau=5, temperature=5),
)
