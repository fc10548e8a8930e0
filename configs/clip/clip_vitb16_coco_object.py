# COCO-Object with plain CLIP attention under SCLIP's protocol, OpenAI ViT-B/16.
_base_ = ["../_base_/models/clip.py", "../_base_/datasets/coco_object.py", "../_base_/runtime/eval.py"]
model = dict(
    vocabulary=dict(file="coco_object", background=0),
    head=dict(logit_scale=50, threshold=0.1),
)
