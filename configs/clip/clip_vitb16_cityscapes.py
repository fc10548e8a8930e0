# Cityscapes with plain CLIP attention under SCLIP's protocol, OpenAI ViT-B/16.
_base_ = ["../_base_/models/clip.py", "../_base_/datasets/cityscapes.py", "../_base_/runtime/eval.py"]
short_side = 560
model = dict(
    vocabulary=dict(file="cityscapes"),
)
