# VOC20 with SAM-CLIP, SAM ViT-B.
# Windows and sizes are ovseg's own: no public text gives them.
_base_ = ["../_base_/trained/sam_clip_merged.py", "../_base_/datasets/voc20.py", "../_base_/runtime/eval.py"]
short_side = 448
model = dict(
    vocabulary=dict(file="voc20"),
)
