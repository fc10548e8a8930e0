# ADE20K with DenseCLIP, ViT-B/16.
# No weights are published in this form: train them and give the file twice,
# --cfg-options model.backbone.checkpoint=FILE model.decoder.checkpoint=FILE
_base_ = ["../_base_/trained/denseclip.py", "../_base_/datasets/ade20k.py", "../_base_/runtime/eval.py"]
short_side = 640
model = dict(
    backbone=dict(weights="denseclip/ade20k"),
    decoder=dict(weights="denseclip/ade20k", classes=150),
    vocabulary=dict(file="ade20k"),
)
