# ADE20K with plain CLIP attention under SCLIP's protocol, OpenAI ViT-B/16.
_base_ = ["../_base_/models/clip.py", "../_base_/datasets/ade20k.py", "../_base_/runtime/eval.py"]
model = dict(
    vocabulary=dict(file="ade20k"),
)
