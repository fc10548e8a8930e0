# COCO-Stuff with SAN, OpenAI ViT-B/16.
_base_ = [
    "../_base_/trained/san.py",
    "../_base_/datasets/detectron2/coco_stuff.py",
    "../_base_/runtime/eval.py",
]
model = dict(
    vocabulary=dict(file="coco_stuff"),
)
