# nano on scenes with DeCLIP, trained by declip_nano_train.py without words and masks, on scenes in which 43 of the 172
# object words never occur.
_base_ = ["../_base_/datasets/scenes.py", "../_base_/runtime/eval.py"]
model = dict(
    type="OpenVocabSegmentor",
    backbone=dict(type="ClipBackbone", weights="nano_declip", pos_embed="size"),
    attention=dict(type="DeclipAttention"),
    templates="photo",
    vocabulary=dict(file="{{ fileDirname }}/../../data/scenes/classes.txt"),
    windows=dict(crop=112, stride=56, batch=32),
    supervision="nano's CLIP: image-text pairs; DeCLIP: images only, taught by nano and nano's guide",
)
