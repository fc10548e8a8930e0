# Context60 with ProxyCLIP, OpenAI ViT-B/16 and DINO ViT-B/8.
_base_ = ["../_base_/models/proxyclip.py", "../_base_/datasets/context60.py", "../_base_/runtime/eval.py"]
model = dict(
    vocabulary=dict(file="context60", background=0),
    head=dict(threshold=0.15),
)
