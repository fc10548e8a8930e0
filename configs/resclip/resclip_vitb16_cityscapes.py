# Cityscapes with ResCLIP over NACLIP, OpenAI ViT-B/16.
_base_ = ["../_base_/models/resclip.py", "../_base_/datasets/cityscapes.py", "../_base_/runtime/eval.py"]
short_side = 560
model = dict(
    vocabulary=dict(file="cityscapes"),
    attention=dict(weight=0.2, sharpness=2.1, feedback=0.6),
    stitch=dict(threshold=0.1),
)
