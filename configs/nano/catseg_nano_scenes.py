# nano on scenes with CAT-Seg, trained by catseg_nano_train.py on masks in which 43 of the 172 object words never occur.
_base_ = ["../_base_/datasets/scenes.py", "../_base_/runtime/eval.py"]
model = dict(
    type="DecoderSegmentor",
    backbone=dict(type="ClipBackbone", weights="nano_catseg", pos_embed="size"),
    decoder=dict(
        type="CatSegDecoder",
        weights="nano_catseg",
        guidance_blocks=(1, 3),
        dim=64,
        guidance_dim=64,
        window=7,
        up_dims=(32, 16),
        up_guidance=(16, 8),
        middle_dims=(64, 32),
        max_words=64,
    ),
    framing=dict(type="SlidingCrops", crop=112, stride=56),
    templates="photo",
    vocabulary=dict(file="{{ fileDirname }}/../../data/scenes/classes.txt"),
    supervision="nano's CLIP: image-text pairs; CAT-Seg: masks of composed scenes, 43 of 172 object words held out",
)
