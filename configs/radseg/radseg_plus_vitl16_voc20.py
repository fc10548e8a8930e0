# VOC20 with RADSeg+ at mid resolution, C-RADIOv3-L; settings as with C-RADIOv3-B.
_base_ = "./radseg_plus_vitb16_voc20.py"
model = dict(
    backbone=dict(weights="radio/vitl16", language="radio/siglip2_vitl16", pos_embed="square"),
    photo_encoder=dict(weights="radio/vitl16", adaptor="radio/sam_vitl16", pos_embed="square"),
)
