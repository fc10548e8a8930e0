# PC459 with SC-CLIP, OpenAI ViT-B/16. Not in the paper.
_base_ = ["../_base_/models/scclip.py", "../_base_/datasets/pc459.py", "../_base_/runtime/eval.py"]
model = dict(
    vocabulary=dict(file="pc459"),
)
