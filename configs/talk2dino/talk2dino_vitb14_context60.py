# PASCAL Context with background with Talk2DINO, its cleaning of the background on; DINOv2 ViT-B/14 with registers.
_base_ = ["../_base_/models/talk2dino.py", "../_base_/datasets/context60.py", "../_base_/runtime/eval.py"]
short_side = 448
model = dict(
    vocabulary=dict(file="context60", background=0),
    attention=dict(weight=0.2),
    head=dict(threshold=0.55),
)
