# nano on scenes with Trident: nano's guide splices, nano's SAM aggregates over the photo and redraws every component,
# prompted by point, box and mask.
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
    # Four parts: SAM's grid of 16 cells a side is coarser than CLIP's on the photo.
    photo_encoder=dict(weights="nano_sam", tiles=(2, 2)),
    vocabulary=dict(file="{{ fileDirname }}/../../data/scenes/classes.txt"),
    # Multiples of the patch: features are spliced on its lattice.
    windows=dict(crop=112, stride=48, batch=32),
    # Nano's CLIP says "ground" where a patch shows some, so features averaged over the *true* objects already lose (40
    # mIoU where nothing is averaged has 46, 24 validation scenes). Hence a limit near 1, which mixes little.
    stitch=dict(cos_factor=99.0, cap=0.98),
    label_refiners=[
        # The mask prompt with its batch axis: nano's SAM never saw the official code's other one.
        dict(type="SamPromptRefiner", coarse_threshold=0.0, iou_threshold=0.4, min_area=40, unbatched_mask=False)
    ],
)
