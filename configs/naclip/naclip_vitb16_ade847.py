# ADE847 with NACLIP without PAMR, OpenAI ViT-B/16. Not in the paper.
_base_ = ["../_base_/models/naclip.py", "../_base_/datasets/ade847.py", "../_base_/runtime/eval.py"]
model = dict(
    vocabulary=dict(file="ade847"),
)
