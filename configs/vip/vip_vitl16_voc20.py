# VOC20 with VIP, dino.txt on DINOv3 ViT-L/16.
_base_ = ["../_base_/models/vip.py", "../_base_/datasets/voc20.py", "../_base_/runtime/eval.py"]
short_side = 336
model = dict(
    vocabulary=dict(file="voc20"),
    stitch=dict(tau=4, temperature=1),
)
