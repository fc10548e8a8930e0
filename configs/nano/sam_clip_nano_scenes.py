# nano on scenes with SAM + CLIP: masks of nano's SAM, named by nano.
_base_ = ["../_base_/models/sam_clip.py", "../_base_/datasets/scenes.py", "../_base_/runtime/eval.py"]
test_dataloader = dict(
    dataset=dict(
        pipeline=[dict(type="LoadImage"), dict(type="LoadMask"), dict(type="PackInputs", keys=("original",))],
    )
)
model = dict(
    backbone=dict(weights="nano"),
    regions=dict(source=dict(weights="nano_sam", points_per_side=10, iou_threshold=0.6, stability_threshold=0.8)),
    region_encoder=dict(_delete_=True, type="MaskPooling"),
    # What is pooled, and what names the pixels without a mask: SCLIP's attention, the best plain one of nano.
    attention=dict(terms=("q", "k"), residual=True, ffn=True),
    vocabulary=dict(file="{{ fileDirname }}/../../data/scenes/classes.txt"),
    windows=dict(crop=112, stride=56, batch=32),
)
