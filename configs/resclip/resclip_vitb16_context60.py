# Context60 with ResCLIP over NACLIP, OpenAI ViT-B/16.
_base_ = ["../_base_/models/resclip.py", "../_base_/datasets/context60.py", "../_base_/runtime/eval.py"]
model = dict(
    vocabulary=dict(file="context60", background=0),
    attention=dict(weight=0.3, sharpness=1.8, feedback=0.7),
    stitch=dict(threshold=0.3),
    head=dict(threshold=0.1),
)
