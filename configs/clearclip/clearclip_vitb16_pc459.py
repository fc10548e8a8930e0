# PC459 with ClearCLIP, OpenAI ViT-B/16. Not in the paper.
_base_ = ["../_base_/models/clearclip.py", "../_base_/datasets/pc459.py", "../_base_/runtime/eval.py"]
short_side = 448
model = dict(
    vocabulary=dict(file="pc459"),
)
