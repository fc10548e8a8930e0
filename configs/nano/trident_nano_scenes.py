# nano on scenes with Trident: nano's guide splices, nano's SAM aggregates over the photo; no prompts (see trident_sam).
_base_ = ["../_base_/models/trident.py", "../_base_/datasets/scenes.py", "../_base_/runtime/eval.py"]
test_dataloader = dict(
    dataset=dict(
        pipeline=[dict(type="LoadImage"), dict(type="LoadMask"), dict(type="PackInputs", keys=("original",))],
    )
)
model = dict(
    backbone=dict(weights="nano"),
    guide=dict(weights="nano_guide"),
    attention=dict(gamma=10.0),  # as in proxyclip_nano_scenes.py
    photo_encoder=dict(weights="nano_sam"),
    vocabulary=dict(file="{{ fileDirname }}/../../data/scenes/classes.txt"),
    # Multiples of the patch: features are spliced on its lattice.
    windows=dict(crop=112, stride=48, batch=32),
    # Nano's SAM finds all objects alike: with the paper's limit (1.2 times the mean cosine, at most 0.9) an object
    # gets 4 to 18 % of its new features from itself. A limit near 1 mixes little, so it does less harm.
    stitch=dict(cos_factor=99.0, cap=0.995),
    label_refiners=[],
)
