# SAM-CLIP at nano's scale, head and encoder together: `python tools/train.py
# configs/nano/sam_clip_merged_nano_train.py` after `python -m ovseg.nano.sprites fetch`. nano's SAM learns what nano's
# CLIP says of scenes and keeps what it says of points, without a word or a mask of the scenes.
# Validation every 400 iterations on scenes of another seed with all 180 words.
_base_ = ["../_base_/trained/nano_scenes_train.py"]
max_iters = 800
_scenes = dict(type="UnlabelledScenes", sprites="{{$OVSEG_DATA:data}}/sprites/fluent.npz")
model = dict(
    type="SamClipTrainer",
    student=dict(
        type="OpenVocabSegmentor",
        backbone=dict(type="SamClipBackbone", sam="nano_sam", text="nano", head=dict(depth=2)),
        attention=dict(type="PlainAttention"),
        vocabulary=dict(file="{{ fileDirname }}/../../data/scenes/classes.txt"),
        windows=dict(crop=112, stride=56, batch=32),
        templates="photo",
        text_cache=False,
        supervision="nano's SAM: masks of scenes; nano's CLIP: image-text pairs; the encoder: images, taught by both",
    ),
    teacher=dict(type="ClipBackbone", weights="nano"),
    trained=[
        "head.*",
        "sam.image_encoder.*",
        "sam.mask_decoder.transformer.*",
        "sam.mask_decoder.iou_token.*",
        "sam.mask_decoder.mask_tokens.*",
        "sam.mask_decoder.output_upscaling.*",
        "sam.mask_decoder.output_hypernetworks_mlps.[1-3].*",
    ],
)
train_dataloader = dict(
    batch_size=16,
    dataset=dict(
        _delete_=True,
        type="PairedDataset",
        first=dict(
            **_scenes, size=112, seed=21, style=dict(edge=(36, 150), items=(1, 4)), pipeline=[dict(type="PackInputs")]
        ),
        second=dict(
            **_scenes,
            size=256,
            seed=22,
            style=dict(edge=(40, 176), items=(2, 8)),
            pipeline=[dict(type="PointPrompts", count=4, side=256), dict(type="PackInputs", keys=("points",))],
        ),
    ),
)
train_cfg = dict(max_iters=max_iters, val_interval=400)
optim_wrapper = dict(
    optimizer=dict(lr=1e-3),
    paramwise_cfg=dict(_delete_=True, norm_decay_mult=0.0, custom_keys={"sam.": dict(lr_mult=0.1)}),
)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.05, begin=0, end=50, by_epoch=False),
    dict(type="CosineAnnealingLR", eta_min=1e-5, begin=50, end=max_iters, by_epoch=False),
]
work_dir = "work_dirs/sam_clip_merged_nano_train"
