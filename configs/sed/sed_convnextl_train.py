# Training of SED, ConvNeXt-L: as sed_convnextb_train.py. The authors' drop-out and drop path (0.1) in CLIP are off.
_base_ = "./sed_convnextb_train.py"
model = dict(backbone=dict(weights="laion2b_s29b_b131k_ft_soup/convnext_large_d_320"))
