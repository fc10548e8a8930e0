# COCO-Object with ClearCLIP, OpenAI ViT-B/16.
_base_ = ["../_base_/models/clearclip.py", "../_base_/datasets/coco_object.py", "../_base_/runtime/eval.py"]
short_side = 448
model = dict(
    vocabulary=dict(file="coco_object_plain", background=0),
    head=dict(threshold=0.4),
)
