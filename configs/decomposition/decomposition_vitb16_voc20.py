# VOC20 with CLIP's text-based decomposition as a segmenter, OpenAI ViT-B/16 (the paper reports ImageNet-Segmentation).
_base_ = ["../_base_/models/decomposition.py", "../_base_/datasets/voc20.py", "../_base_/runtime/eval.py"]
model = dict(
    vocabulary=dict(file="voc20"),
)
