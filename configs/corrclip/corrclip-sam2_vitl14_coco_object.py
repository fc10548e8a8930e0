# COCO-Object with CorrCLIP v1 and SAM 2, MetaCLIP ViT-L/14; as with ViT-B/16 but 12 spatial layers (as v2).
_base_ = "./corrclip-sam2_vitb16_coco_object.py"
model = dict(
    backbone=dict(weights="metaclip_fullcc/ViT-L-14"),
    attention=dict(spatial_layers=12),
)
