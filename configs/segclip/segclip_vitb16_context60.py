# Context60 with SegCLIP, ViT-B/16.
# No weights are published in a form that ovseg reads: train them and give the file twice,
# --cfg-options model.backbone.checkpoint=FILE model.decoder.checkpoint=FILE
_base_ = ["../_base_/trained/segclip.py", "../_base_/datasets/context60.py", "../_base_/runtime/eval.py"]
short_side = 224
model = dict(
    backbone=dict(weights="segclip/vitb16"),
    decoder=dict(weights="segclip/vitb16"),
    vocabulary=dict(file="context60", background=0),
    head=dict(threshold=0.25),
)
