# ADE20K with SC-CLIP, OpenAI ViT-B/16.
_base_ = ["../_base_/models/scclip.py", "../_base_/datasets/ade20k.py", "../_base_/runtime/eval.py"]
model = dict(
    vocabulary=dict(file="ade20k"),
)
