# COCO-Stuff with ResCLIP over NACLIP, OpenAI ViT-B/16.
_base_ = ["../_base_/models/resclip.py", "../_base_/datasets/coco_stuff.py", "../_base_/runtime/eval.py"]
model = dict(
    vocabulary=dict(file="coco_stuff"),
    attention=dict(weight=0.4, sharpness=1.8, feedback=0.7),
    stitch=dict(threshold=0.11),
)
