# COCO-Stuff with plain CLIP attention under SCLIP's protocol, OpenAI ViT-B/16.
_base_ = ["../_base_/models/clip.py", "../_base_/datasets/coco_stuff.py", "../_base_/runtime/eval.py"]
short_side = 448
model = dict(
    vocabulary=dict(file="coco_stuff"),
)
