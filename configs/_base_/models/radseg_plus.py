# RADSeg+: RADSeg, whose labels SAM's mask decoder redraws on RADIO's own features, by Trident's procedure.
_base_ = "./radseg.py"
model = dict(
    photo_encoder=dict(
        type="RadioSamBackbone",
        weights="radio/vitb16",
        adaptor="radio/sam_vitb16",
        sam="sam/vit_h",
        pos_embed="square_corners",
    ),
    label_refiners=[dict(type="SamPromptRefiner", coarse_threshold=0.2, iou_threshold=0.9, min_area=225)],
)
