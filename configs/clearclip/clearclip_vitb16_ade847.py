# ADE847 with ClearCLIP, OpenAI ViT-B/16. Not in the paper.
_base_ = ["../_base_/models/clearclip.py", "../_base_/datasets/ade847.py", "../_base_/runtime/eval.py"]
short_side = 448
model = dict(
    vocabulary=dict(file="ade847"),
)
