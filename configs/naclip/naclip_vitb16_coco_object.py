# COCO-Object with NACLIP without PAMR, OpenAI ViT-B/16.
_base_ = ["../_base_/models/naclip.py", "../_base_/datasets/coco_object.py", "../_base_/runtime/eval.py"]
model = dict(
    vocabulary=dict(file="coco_object", background=0),
    head=dict(threshold=0.1),
)
