# CAT-Seg on your own photos, from nano-photo, which comes with ovseg: small and fast, the decoder starts at random.
# python tools/train.py configs/finetune/catseg_folder_photo.py --cfg-options folder.root=DIR folder.classes=FILE
_base_ = "../_base_/trained/catseg_finetune.py"
folder = dict(root="data/folder", classes="data/folder/classes.txt")
model = dict(
    backbone=dict(weights="nano-photo"),
    decoder=dict(weights=None, guidance_blocks=(0, 1), window=8, dim=64, guidance_dim=64, training_pooling=1),
    framing=dict(canvas=384, crop=256, stride=128),
    training_framing=dict(side=256),
)
optim_wrapper = dict(optimizer=dict(lr=1e-3), clip_grad=dict(max_norm=1.0))
