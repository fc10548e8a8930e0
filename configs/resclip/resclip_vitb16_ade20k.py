# ADE20K with ResCLIP over NACLIP, OpenAI ViT-B/16.
_base_ = ["../_base_/models/resclip.py", "../_base_/datasets/ade20k.py", "../_base_/runtime/eval.py"]
model = dict(
    vocabulary=dict(file="ade20k"),
    attention=dict(weight=0.3, sharpness=2.1, feedback=0.7),
    stitch=dict(threshold=0.25),
)
