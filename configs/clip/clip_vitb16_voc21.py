# VOC21 with plain CLIP attention under SCLIP's protocol, OpenAI ViT-B/16.
_base_ = ["../_base_/models/clip.py", "../_base_/datasets/voc21.py", "../_base_/runtime/eval.py"]
model = dict(
    vocabulary=dict(file="voc21", background=0),
    head=dict(logit_scale=65, threshold=0.1, area_threshold=0.1),
)
