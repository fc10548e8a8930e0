# CAT-Seg at nano's scale: `python tools/train.py configs/nano/catseg_nano_train.py`
# after `python -m ovseg.nano.sprites fetch`. From nano's CLIP, on composed scenes of 129 object words and 8 grounds;
# 43 object words are held out: they never appear, with or without a mask. Validation every 400 iterations on scenes of
# another seed with all 180 words: mIoU of seen and unseen words and their harmonic mean.
_base_ = ["../_base_/trained/nano_scenes_train.py"]

model = dict(
    type="DecoderSegmentor",
    backbone=dict(type="ClipBackbone", weights="nano", pos_embed="size", split_projections=True),
    decoder=dict(
        type="CatSegDecoder",
        guidance_blocks=(1, 3),
        dim=64,
        guidance_dim=64,
        window=7,
        up_dims=(32, 16),
        up_guidance=(16, 8),
        middle_dims=(64, 32),
        training_pooling=1,
        max_words=64,
    ),
    framing=dict(type="SlidingCrops", crop=112, stride=56),
    training_framing=dict(type="WholePhoto", pad_multiple=None),
    loss=dict(type="BinaryMapLoss"),
    trained=["decoder.*", "backbone.clip.*.attn.[qv]_proj_weight"],
    vocabulary=dict(file="{{ fileDirname }}/../../data/scenes/classes.txt"),
    training_vocabulary=dict(file="{{ fileDirname }}/../../data/scenes/seen.txt"),
    words_per_step=32,
    templates="photo",
    text_cache=False,
    supervision="nano's CLIP: image-text pairs; CAT-Seg: masks of composed scenes, 43 of 172 object words held out",
)
work_dir = "work_dirs/catseg_nano_train"
