# Context60 with SC-CLIP, OpenAI ViT-B/16.
_base_ = ["../_base_/models/scclip.py", "../_base_/datasets/context60.py", "../_base_/runtime/eval.py"]
model = dict(
    vocabulary=dict(file="context60", background=0),
    head=dict(threshold=0.15),
)
