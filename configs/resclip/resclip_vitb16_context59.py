# Context59 with ResCLIP over NACLIP, OpenAI ViT-B/16.
_base_ = ["../_base_/models/resclip.py", "../_base_/datasets/context59.py", "../_base_/runtime/eval.py"]
model = dict(
    vocabulary=dict(file="context59"),
    attention=dict(weight=0.4, sharpness=1.8, feedback=0.7),
    stitch=dict(threshold=0.25),
)
