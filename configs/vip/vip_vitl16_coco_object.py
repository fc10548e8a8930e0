# COCO-Object with VIP, dino.txt on DINOv3 ViT-L/16.
_base_ = ["../_base_/models/vip.py", "../_base_/datasets/coco_object.py", "../_base_/runtime/eval.py"]
short_side = 336
model = dict(
    vocabulary=dict(file="coco_object", background=0),
    stitch=dict(tau=6, temperature=0.3),
    head=dict(threshold=0.13),
)
