# VOC21 with ClearCLIP, OpenAI ViT-B/16.
_base_ = ["../_base_/models/clearclip.py", "../_base_/datasets/voc21.py", "../_base_/runtime/eval.py"]
short_side = 448
model = dict(
    vocabulary=dict(file="voc21_clearclip", background=0),
    head=dict(threshold=0.5),
)
