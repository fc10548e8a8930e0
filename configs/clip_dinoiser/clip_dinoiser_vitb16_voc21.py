# VOC21 with CLIP-DINOiser, LAION ViT-B/16.
_base_ = ["../_base_/models/clip_dinoiser.py", "../_base_/datasets/voc21.py", "../_base_/runtime/eval.py"]
short_side = 448
model = dict(
    vocabulary=dict(file="voc21_maskclip", background=0),
)
