# VOC20 with NACLIP without PAMR, OpenAI ViT-B/16.
_base_ = ["../_base_/models/naclip.py", "../_base_/datasets/voc20.py", "../_base_/runtime/eval.py"]
model = dict(
    vocabulary=dict(file="voc20"),
    windows=dict(crop=None, stride=None),
)
