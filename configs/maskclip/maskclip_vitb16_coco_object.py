# COCO-Object with MaskCLIP as in CLIP-DINOiser, OpenAI ViT-B/16.
_base_ = ["../_base_/models/maskclip.py", "../_base_/datasets/coco_object.py", "../_base_/runtime/eval.py"]
short_side = 448
model = dict(
    backbone=dict(weights="openai/ViT-B-16"),
    vocabulary=dict(file="coco_object_plain", background=0),
)
