# ADE847 with plain CLIP attention under SCLIP's protocol, OpenAI ViT-B/16.
_base_ = ["../_base_/models/clip.py", "../_base_/datasets/ade847.py", "../_base_/runtime/eval.py"]
model = dict(
    vocabulary=dict(file="ade847"),
)
