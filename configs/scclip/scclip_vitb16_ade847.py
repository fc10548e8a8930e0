# ADE847 with SC-CLIP, OpenAI ViT-B/16. Not in the paper.
_base_ = ["../_base_/models/scclip.py", "../_base_/datasets/ade847.py", "../_base_/runtime/eval.py"]
model = dict(
    vocabulary=dict(file="ade847"),
)
