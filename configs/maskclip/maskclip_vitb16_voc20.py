# VOC20 with MaskCLIP as in CLIP-DINOiser, OpenAI ViT-B/16.
_base_ = ["../_base_/models/maskclip.py", "../_base_/datasets/voc20.py", "../_base_/runtime/eval.py"]
short_side = 448
model = dict(
    backbone=dict(weights="openai/ViT-B-16"),
    vocabulary=dict(file="voc20"),
)
