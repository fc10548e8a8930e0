# COCO-Object with SC-CLIP, OpenAI ViT-B/16.
_base_ = ["../_base_/models/scclip.py", "../_base_/datasets/coco_object.py", "../_base_/runtime/eval.py"]
model = dict(
    vocabulary=dict(file="coco_object", background=0),
    head=dict(logit_scale=55, threshold=0.35),
)
