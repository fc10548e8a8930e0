# Cityscapes with SFP, OpenAI ViT-B/16.
_base_ = ["../_base_/models/sfp.py", "../_base_/datasets/cityscapes.py", "../_base_/runtime/eval.py"]
short_side = 560
model = dict(
    vocabulary=dict(file="cityscapes"),
)
