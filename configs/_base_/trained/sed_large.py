# SED, large: a ConvNeXt-L CLIP.
_base_ = "./sed.py"
model = dict(backbone=dict(weights="sed/large"), decoder=dict(weights="sed/large"))
