# nano on scenes with RADSeg's operators: the last block attends by its own output, features spliced and aggregated.
# nano's own patches and words stand in the place of RADIO's and of its language head.
_base_ = ["../_base_/models/radseg.py", "../_base_/datasets/scenes.py", "../_base_/runtime/eval.py"]
model = dict(
    backbone=dict(_delete_=True, type="ClipBackbone", weights="nano", pos_embed="scale"),
    vocabulary=dict(file="{{ fileDirname }}/../../data/scenes/classes.txt"),
    # Multiples of the patch: features are spliced on its lattice.
    windows=dict(crop=112, stride=48, fit_multiple=16, batch=32),
    supervision="CLIP: image-text pairs",
)
