# Cityscapes with ITACLIP, OpenAI ViT-B/16; the auxiliary texts are our own synonyms, not the authors'.
_base_ = ["../_base_/models/itaclip.py", "../_base_/datasets/cityscapes.py", "../_base_/runtime/eval.py"]
short_side = 560
model = dict(
    vocabulary=dict(file="cityscapes"),
    auxiliary_text=dict(file="cityscapes_synonyms", weight=0.05),
    views=dict(weight=0.7),
)
