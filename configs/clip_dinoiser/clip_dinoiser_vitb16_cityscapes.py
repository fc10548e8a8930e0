# Cityscapes with CLIP-DINOiser, LAION ViT-B/16.
_base_ = ["../_base_/models/clip_dinoiser.py", "../_base_/datasets/cityscapes.py", "../_base_/runtime/eval.py"]
short_side = 448
model = dict(
    vocabulary=dict(file="cityscapes"),
    attention=dict(background=False),
)
