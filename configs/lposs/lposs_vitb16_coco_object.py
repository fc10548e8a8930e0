# COCO-Object with LPOSS, LAION ViT-B/16 and DINO ViT-B/16.
_base_ = ["../_base_/models/lposs.py", "../_base_/datasets/coco_object.py", "../_base_/runtime/eval.py"]
short_side = 448
model = dict(
    vocabulary=dict(file="coco_object", background=0),
)
