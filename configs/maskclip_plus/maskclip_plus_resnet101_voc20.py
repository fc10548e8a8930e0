# VOC20 with MaskCLIP+, DeepLabv2 on ResNet-101.
# No weights are published in this form: train them and give the file, e.g.
# --cfg-options model.decoder.checkpoint=work_dirs/maskclip_plus_resnet101_voc20_train/iter_2000.pth
_base_ = ["../_base_/trained/maskclip_plus.py", "../_base_/datasets/voc20.py", "../_base_/runtime/eval.py"]
short_side = 512
model = dict(
    vocabulary=dict(file="voc20"),
)
