# COCO-Object with CLIP-DINOiser, LAION ViT-B/16.
_base_ = ["../_base_/models/clip_dinoiser.py", "../_base_/datasets/coco_object.py", "../_base_/runtime/eval.py"]
short_side = 448
model = dict(
    vocabulary=dict(file="coco_object_plain", background=0),
)
