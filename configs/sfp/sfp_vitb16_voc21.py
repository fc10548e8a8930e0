# VOC21 with SFP, OpenAI ViT-B/16.
_base_ = ["../_base_/models/sfp.py", "../_base_/datasets/voc21.py", "../_base_/runtime/eval.py"]
model = dict(
    vocabulary=dict(file="voc21_sfp", background=0),
    head=dict(logit_scale=50, threshold=0.15, area_threshold=0.1),
)
