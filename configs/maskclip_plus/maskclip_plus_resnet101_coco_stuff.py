# COCO-Stuff with MaskCLIP+, DeepLabv2 on ResNet-101.
# No weights are published in this form: train them and give the file, e.g.
# --cfg-options model.decoder.checkpoint=work_dirs/maskclip_plus_resnet101_coco_stuff_train/iter_8000.pth
_base_ = ["../_base_/trained/maskclip_plus.py", "../_base_/datasets/coco_stuff.py", "../_base_/runtime/eval.py"]
short_side = 512
model = dict(
    vocabulary=dict(file="coco_stuff"),
)
