# ADE20K with NACLIP without PAMR, OpenAI ViT-B/16.
_base_ = ["../_base_/models/naclip.py", "../_base_/datasets/ade20k.py", "../_base_/runtime/eval.py"]
model = dict(
    vocabulary=dict(file="ade20k"),
)
