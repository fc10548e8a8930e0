# VOC20 with ResCLIP over NACLIP, OpenAI ViT-B/16.
_base_ = ["../_base_/models/resclip.py", "../_base_/datasets/voc20.py", "../_base_/runtime/eval.py"]
model = dict(
    vocabulary=dict(file="voc20"),
    windows=dict(crop=None, stride=None),
    attention=dict(weight=0.6, sharpness=2.1, feedback=0.6),
    stitch=dict(threshold=0.1),
)
