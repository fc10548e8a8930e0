# Cityscapes with VIP, dino.txt on DINOv3 ViT-L/16.
_base_ = ["../_base_/models/vip.py", "../_base_/datasets/cityscapes.py", "../_base_/runtime/eval.py"]
short_side = 560
test_evaluator = dict(unlabelled=True)
model = dict(
    vocabulary=dict(file="cityscapes"),
    stitch=dict(tau=2, temperature=10),
    head=dict(threshold=0.15, background=None, unlabelled=True),
)
