# PASCAL Context without background with VIP, dino.txt on DINOv3 ViT-L/16.
_base_ = ["../_base_/models/vip.py", "../_base_/datasets/context59.py", "../_base_/runtime/eval.py"]
short_side = 336
test_evaluator = dict(unlabelled=True)
model = dict(
    vocabulary=dict(file="context59"),
    stitch=dict(tau=2, temperature=1),
    head=dict(threshold=0.1, background=None, unlabelled=True),
)
