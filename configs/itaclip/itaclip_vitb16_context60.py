# Context60 with ITACLIP, OpenAI ViT-B/16; the auxiliary texts are our own definitions, not the authors'.
_base_ = ["../_base_/models/itaclip.py", "../_base_/datasets/context60.py", "../_base_/runtime/eval.py"]
model = dict(
    vocabulary=dict(file="context60", background=0),
    auxiliary_text=dict(file="context60", weight=0.15),
    head=dict(logit_scale=55, threshold=0.1),
)
