# PASCAL Context with background with VIP, dino.txt on DINOv3 ViT-L/16.
_base_ = ["../_base_/models/vip.py", "../_base_/datasets/context60.py", "../_base_/runtime/eval.py"]
short_side = 336
model = dict(
    vocabulary=dict(file="context60", background=0),
    stitch=dict(tau=2.2, temperature=1),
    head=dict(threshold=0.1),
)
