# VOC21 with SC-CLIP, OpenAI ViT-B/16.
_base_ = ["../_base_/models/scclip.py", "../_base_/datasets/voc21.py", "../_base_/runtime/eval.py"]
model = dict(
    vocabulary=dict(file="voc21", background=0),
    head=dict(logit_scale=50, threshold=0.15, area_threshold=0.1),
)
