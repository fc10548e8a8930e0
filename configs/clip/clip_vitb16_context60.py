# Context60 with plain CLIP attention under SCLIP's protocol, OpenAI ViT-B/16.
_base_ = ["../_base_/models/clip.py", "../_base_/datasets/context60.py", "../_base_/runtime/eval.py"]
model = dict(
    vocabulary=dict(file="context60", background=0),
    head=dict(logit_scale=50, threshold=0.1),
)
