# ADE20K with SFP, OpenAI ViT-B/16.
_base_ = ["../_base_/models/sfp.py", "../_base_/datasets/ade20k.py", "../_base_/runtime/eval.py"]
short_side = 384
model = dict(
    vocabulary=dict(file="ade20k"),
)
