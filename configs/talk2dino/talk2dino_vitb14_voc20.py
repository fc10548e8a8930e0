# VOC20 with Talk2DINO, DINOv2 ViT-B/14 with registers and OpenAI ViT-B/16's words.
_base_ = ["../_base_/models/talk2dino.py", "../_base_/datasets/voc20.py", "../_base_/runtime/eval.py"]
short_side = 448
model = dict(
    vocabulary=dict(file="voc20_joined"),
)
