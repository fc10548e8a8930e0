# nano on scenes with CLIP-DINOiser; its heads come with ovseg (clip_dinoiser_nano_train.py made them).
_base_ = ["../_base_/models/clip_dinoiser.py", "../_base_/datasets/scenes.py", "../_base_/runtime/eval.py"]
model = dict(
    backbone=dict(weights="nano"),
    # No background class: the grounds of the scenes have names. With the paper's threshold of 0.2 objects of a few
    # patches take in their ground (validation scenes: 42.6 mIoU; 0.5: 50.6; without any pooling 48.3).
    attention=dict(heads="nano_dinoiser", background=False, threshold=0.5),
    vocabulary=dict(file="{{ fileDirname }}/../../data/scenes/classes.txt"),
    windows=dict(crop=112, stride=56, batch=32),
    supervision="CLIP: image-text pairs; CLIP-DINOiser heads: images only, taught by nano's guide and FOUND",
)
