# nano on scenes with SAN, trained by san_nano_train.py on masks in which 43 of the 172 object words never occur.
_base_ = ["../_base_/datasets/scenes.py", "../_base_/runtime/eval.py"]
model = dict(
    type="DecoderSegmentor",
    backbone=dict(type="ClipBackbone", weights="nano_san", pos_embed="size"),
    decoder=dict(
        type="SideAdapterDecoder",
        weights="nano_san",
        split=4,
        clip_scale=1.0,
        fusion=((0, 0), (2, 1), (3, 2), (4, 3)),
        network=dict(width=96, depth=6, num_heads=4, patch_size=8, queries=24, image_size=112),
        supervised=(5, 6),
    ),
    framing=dict(type="SlidingCrops", crop=112, stride=56),
    templates="photo",
    vocabulary=dict(file="{{ fileDirname }}/../../data/scenes/classes.txt"),
    supervision="nano's CLIP: image-text pairs; side adapter: masks of scenes, 43 of 172 object words held out",
)
