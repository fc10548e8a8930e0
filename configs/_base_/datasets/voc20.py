# Pascal VOC 2012 segmentation val without its background: those pixels are ignored.
_base_ = "./_common.py"
num_classes = 20
data_root = "{{$OVSEG_DATA:data}}/VOCdevkit/VOC2012"
test_dataloader = dict(
    dataset=dict(
        benchmark="voc20",
        classes="voc20",
        data_root=data_root,
        img_dir="JPEGImages",
        mask_dir="SegmentationClass",
        split="ImageSets/Segmentation/val.txt",
        reduce_zero_label=True,
    )
)
