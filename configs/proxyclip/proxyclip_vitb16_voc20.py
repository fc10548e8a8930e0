# VOC20 with ProxyCLIP, OpenAI ViT-B/16 and DINO ViT-B/8.
_base_ = ["../_base_/models/proxyclip.py", "../_base_/datasets/voc20.py", "../_base_/runtime/eval.py"]
model = dict(
    vocabulary=dict(file="voc20"),
)
