# nano on scenes with OVSeg's region encoder, trained by ovseg_adapted_nano_train.py and ovseg_mpt_nano_train.py on
# masked crops of 129 object words; the masks are those of nano's SAM.
_base_ = ["./sam_clip_nano_scenes.py"]
model = dict(
    backbone=dict(weights="nano_ovseg_mpt"),
    region_encoder=dict(_delete_=True, type="MaskPromptedCrop", weights="nano_ovseg_mpt"),
    supervision="nano's CLIP: image-text pairs, finetuned on masks of scenes, 43 of 172 object words held out; "
    "nano's SAM: masks of scenes without words",
)
