# ADE847 with ProxyCLIP, OpenAI ViT-B/16 and DINO ViT-B/8.
_base_ = ["../_base_/models/proxyclip.py", "../_base_/datasets/ade847.py", "../_base_/runtime/eval.py"]
short_side = 448
model = dict(
    vocabulary=dict(file="ade847"),
)
