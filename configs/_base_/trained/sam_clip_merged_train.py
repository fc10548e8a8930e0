# What the three stages of SAM-CLIP's training share: photos without labels, the teachers, validation on VOC20.
# No public text gives learning rates, iterations and batches: those here are ovseg's own.
_base_ = "../runtime/decoder_train.py"
model = dict(
    type="SamClipTrainer",
    student=dict(
        type="OpenVocabSegmentor",
        backbone=dict(type="SamClipBackbone", sam="sam/vit_b", text="datacomp_xl_s13b_b90k/ViT-B-16"),
        attention=dict(type="PlainAttention"),
        windows=dict(crop=448, stride=224, pad_multiple=16),
        vocabulary=dict(file="voc20"),
        text_cache=False,
        supervision="SAM: SA-1B masks (no classes); CLIP: image-text pairs; the encoder: images, taught by both",
    ),
    teacher=dict(type="ClipBackbone", weights="datacomp_xl_s13b_b90k/ViT-B-16"),
)
val_dataloader = dict(
    dataset=dict(
        type="SegmentationDataset",
        benchmark="voc20",
        classes="voc20",
        data_root="{{$OVSEG_DATA:data}}/VOCdevkit/VOC2012",
        img_dir="JPEGImages",
        mask_dir="SegmentationClass",
        split="ImageSets/Segmentation/val.txt",
        reduce_zero_label=True,
        pipeline=[
            dict(type="LoadImage"),
            dict(type="LoadMask"),
            dict(type="ResizeShortSide", short_side=448, max_long=2048),
            dict(type="PackInputs"),
        ],
    ),
)
optim_wrapper = dict(optimizer=dict(weight_decay=0.1, betas=(0.9, 0.98)), clip_grad=dict(max_norm=1.0))
