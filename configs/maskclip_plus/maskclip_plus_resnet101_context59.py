# Context59 with MaskCLIP+, DeepLabv2 on ResNet-101.
# No weights are published in this form: train them and give the file, e.g.
# --cfg-options model.decoder.checkpoint=work_dirs/maskclip_plus_resnet101_context59_train/iter_4000.pth
_base_ = ["../_base_/trained/maskclip_plus.py", "../_base_/datasets/context59.py", "../_base_/runtime/eval.py"]
short_side = 520
model = dict(
    vocabulary=dict(file="context59"),
)
