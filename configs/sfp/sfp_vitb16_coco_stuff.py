# COCO-Stuff with SFP, OpenAI ViT-B/16.
_base_ = ["../_base_/models/sfp.py", "../_base_/datasets/coco_stuff.py", "../_base_/runtime/eval.py"]
model = dict(
    vocabulary=dict(file="coco_stuff"),
)
