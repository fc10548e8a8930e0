# COCO-Stuff with VIP, dino.txt on DINOv3 ViT-L/16.
_base_ = ["../_base_/models/vip.py", "../_base_/datasets/coco_stuff.py", "../_base_/runtime/eval.py"]
short_side = 448
test_evaluator = dict(unlabelled=True)
model = dict(
    vocabulary=dict(file="coco_stuff"),
    stitch=dict(tau=5, temperature=10),
    head=dict(threshold=0.05, background=None, unlabelled=True),
)
