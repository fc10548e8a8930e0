# COCO-Stuff with ITACLIP, OpenAI ViT-B/16; the auxiliary texts are our own definitions, not the authors'.
_base_ = ["../_base_/models/itaclip.py", "../_base_/datasets/coco_stuff.py", "../_base_/runtime/eval.py"]
short_side = 448
model = dict(
    vocabulary=dict(file="coco_stuff"),
    auxiliary_text=dict(file="coco_stuff", weight=0.2),
)
