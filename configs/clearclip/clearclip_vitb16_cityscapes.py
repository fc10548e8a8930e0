# Cityscapes with ClearCLIP, OpenAI ViT-B/16.
_base_ = ["../_base_/models/clearclip.py", "../_base_/datasets/cityscapes.py", "../_base_/runtime/eval.py"]
short_side = 448
model = dict(
    vocabulary=dict(file="cityscapes"),
    windows=dict(crop=224),
)
