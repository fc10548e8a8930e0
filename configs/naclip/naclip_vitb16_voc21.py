# VOC21 with NACLIP without PAMR, OpenAI ViT-B/16.
_base_ = ["../_base_/models/naclip.py", "../_base_/datasets/voc21.py", "../_base_/runtime/eval.py"]
model = dict(
    vocabulary=dict(file="voc21", background=0),
    windows=dict(crop=None, stride=None),
    head=dict(threshold=0.1),
)
