# VOC20 with ClearCLIP, OpenAI ViT-B/16.
_base_ = ["../_base_/models/clearclip.py", "../_base_/datasets/voc20.py", "../_base_/runtime/eval.py"]
short_side = 448
model = dict(
    vocabulary=dict(file="voc20"),
)
