# Pascal Context val, mmsegmentation's conversion; class 0 is background.
_base_ = "./_common.py"
num_classes = 60
data_root = "{{$OVSEG_DATA:data}}/VOCdevkit/VOC2010"
test_dataloader = dict(
    dataset=dict(
        benchmark="context60",
        classes="context60",
        data_root=data_root,
        img_dir="JPEGImages",
        mask_dir="SegmentationClassContext",
        split="ImageSets/SegmentationContext/val.txt",
    )
)
