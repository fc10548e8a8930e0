# SAN at nano's scale: `python tools/train.py configs/nano/san_nano_train.py`, sprites first (catseg_nano_train.py).
# nano's CLIP stays as it is but for its positions; the same scenes and held-out words as CAT-Seg's.
_base_ = ["../_base_/trained/nano_scenes_train.py"]
max_iters = 3000
model = dict(
    type="DecoderSegmentor",
    backbone=dict(type="ClipBackbone", weights="nano", pos_embed="size"),
    decoder=dict(
        type="SideAdapterDecoder",
        split=4,
        clip_scale=1.0,
        fusion=((0, 0), (2, 1), (3, 2), (4, 3)),
        network=dict(width=96, depth=6, num_heads=4, patch_size=8, queries=24, image_size=112),
        supervised=(5, 6),
    ),
    framing=dict(type="SlidingCrops", crop=112, stride=56, activation="sigmoid"),
    training_framing=dict(type="WholePhoto", pad_multiple=None),
    loss=dict(type="MaskSetLoss", points=1024),
    trained=["decoder.*", "backbone.clip.visual.positional_embedding"],
    vocabulary=dict(file="{{ fileDirname }}/../../data/scenes/classes.txt"),
    training_vocabulary=dict(file="{{ fileDirname }}/../../data/scenes/seen.txt"),
    templates="photo",
    text_cache=False,
    supervision="nano's CLIP: image-text pairs; side adapter: masks of scenes, 43 of 172 object words held out",
)
train_cfg = dict(max_iters=max_iters, val_interval=1000)
optim_wrapper = dict(optimizer=dict(lr=1e-3, weight_decay=1e-2))
param_scheduler = [
    dict(type="LinearLR", start_factor=0.05, begin=0, end=50, by_epoch=False),
    dict(type="CosineAnnealingLR", eta_min=1e-5, begin=50, end=max_iters, by_epoch=False),
]
work_dir = "work_dirs/san_nano_train"
