# VOC21 with ResCLIP over NACLIP, OpenAI ViT-B/16.
_base_ = ["../_base_/models/resclip.py", "../_base_/datasets/voc21.py", "../_base_/runtime/eval.py"]
model = dict(
    vocabulary=dict(file="voc21", background=0),
    windows=dict(crop=None, stride=None),
    attention=dict(weight=0.3, sharpness=2.2, feedback=0.7),
    stitch=dict(threshold=0.5),
    head=dict(threshold=0.1),
)
