# COCO-Object with ITACLIP, OpenAI ViT-B/16; the auxiliary texts are our own synonyms, not the authors'.
_base_ = ["../_base_/models/itaclip.py", "../_base_/datasets/coco_object.py", "../_base_/runtime/eval.py"]
model = dict(
    vocabulary=dict(file="coco_object", background=0),
    auxiliary_text=dict(file="coco_object_synonyms", weight=0.1),
    head=dict(logit_scale=50, threshold=0.1),
)
