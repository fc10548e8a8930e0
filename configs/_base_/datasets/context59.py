# Pascal Context val without its background: those pixels are ignored.
_base_ = "./_common.py"
num_classes = 59
data_root = "{{$OVSEG_DATA:data}}/VOCdevkit/VOC2010"
test_dataloader = dict(
    dataset=dict(
        benchmark="context59",
        classes="context59",
        data_root=data_root,
        img_dir="JPEGImages",
        mask_dir="SegmentationClassContext",
        split="ImageSets/SegmentationContext/val.txt",
        reduce_zero_label=True,
    )
)
