# VOC20 with MaskCLIP+, DeepLabv2 on ResNet-101.
# No weights are published in this form: train them and give the file that `tools/publish_decoder.py --layout student`
# makes of the checkpoint: --cfg-options model.decoder.checkpoint=FILE
_base_ = ["../_base_/trained/maskclip_plus.py", "../_base_/datasets/voc20.py", "../_base_/runtime/eval.py"]
short_side = 512
model = dict(
    vocabulary=dict(file="voc20"),
)
