# Context59 with SFP, OpenAI ViT-B/16.
_base_ = ["../_base_/models/sfp.py", "../_base_/datasets/context59.py", "../_base_/runtime/eval.py"]
model = dict(
    vocabulary=dict(file="context59"),
)
