# COCO-Object with ProxyCLIP, OpenAI ViT-B/16 and DINO ViT-B/8.
_base_ = ["../_base_/models/proxyclip.py", "../_base_/datasets/coco_object.py", "../_base_/runtime/eval.py"]
model = dict(
    vocabulary=dict(file="coco_object", background=0),
    head=dict(threshold=0.25),
)
