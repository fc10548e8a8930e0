# ADE847 with CorrCLIPv2 without its bank, MetaCLIP ViT-B/16, C-RADIOv3-L as in its published rows, regions of SAM 2.
_base_ = "./corrclipv2_vitb16_ade847.py"
model = dict(guide=dict(source=dict(weights="radio/vitl16", pos_embed="square")))
