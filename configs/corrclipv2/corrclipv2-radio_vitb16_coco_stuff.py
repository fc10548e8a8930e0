# COCO-Stuff with CorrCLIPv2 without its bank, MetaCLIP B/16 and C-RADIOv3-L; regions of SAM 2.
_base_ = "./corrclipv2_vitb16_coco_stuff.py"
model = dict(guide=dict(source=dict(weights="radio/vitl16", pos_embed="square")))
