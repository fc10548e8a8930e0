# Cascade-CLIP at nano's scale: `python tools/train.py configs/nano/cascade_clip_nano_train.py`
# after `python -m ovseg.nano.sprites fetch`; `--cfg-options model.decoder.groups=()` is ZegCLIP. Prompts in nano's
# CLIP, on composed scenes of 129 object words and 8 grounds; 43 object words are held out and never appear.
# Validation every 400 iterations on scenes of another seed with all 180 words.
_base_ = ["../_base_/trained/nano_scenes_train.py"]

model = dict(
    type="DecoderSegmentor",
    backbone=dict(type="ClipBackbone", weights="nano", pos_embed="size"),
    decoder=dict(type="RelationDecoder", groups=((1, 2), (3, 4)), hidden=512, class_twice=False),
    framing=dict(type="SlidingCrops", crop=112, stride=56),
    training_framing=dict(type="WholePhoto", pad_multiple=None),
    loss=dict(type="FocalDiceLoss"),
    trained=["decoder.prompts.*", "decoder.stages.*", "decoder.group_weights.*"],
    vocabulary=dict(file="{{ fileDirname }}/../../data/scenes/classes.txt"),
    training_vocabulary=dict(file="{{ fileDirname }}/../../data/scenes/seen.txt"),
    lower_seen=0.1,
    templates="photo",
    text_cache=False,
    supervision="nano's CLIP: image-text pairs; decoder and prompts: masks of scenes, 43 of 172 words held out",
)
work_dir = "work_dirs/cascade_clip_nano_train"
