# COCO-Stuff 10k with SCLIP, OpenAI ViT-B/16.
_base_ = ["../_base_/models/sclip.py", "../_base_/datasets/coco_stuff10k.py", "../_base_/runtime/eval.py"]
short_side = 336
model = dict(
    vocabulary=dict(file="coco_stuff"),
)
