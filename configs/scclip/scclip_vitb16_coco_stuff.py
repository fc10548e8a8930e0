# COCO-Stuff with SC-CLIP, OpenAI ViT-B/16.
_base_ = ["../_base_/models/scclip.py", "../_base_/datasets/coco_stuff.py", "../_base_/runtime/eval.py"]
model = dict(
    vocabulary=dict(file="coco_stuff"),
)
