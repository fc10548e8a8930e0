# VOC21 with ITACLIP, OpenAI ViT-B/16; the auxiliary texts are our own definitions, not the authors'.
_base_ = ["../_base_/models/itaclip.py", "../_base_/datasets/voc21.py", "../_base_/runtime/eval.py"]
model = dict(
    vocabulary=dict(file="voc21_itaclip", background=0),
    auxiliary_text=dict(file="voc21", weight=0.05),
    views=dict(weight=0.7),
    head=dict(logit_scale=60, threshold=0.1, area_threshold=0.1),
)
