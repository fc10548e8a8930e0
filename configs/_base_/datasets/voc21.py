# Pascal VOC 2012 segmentation val, 1,449 photos; class 0 is background.
_base_ = "./_common.py"
num_classes = 21
data_root = "{{$OVSEG_DATA:data}}/VOCdevkit/VOC2012"
test_dataloader = dict(
    dataset=dict(
        benchmark="voc21",
        classes="voc21",
        data_root=data_root,
        img_dir="JPEGImages",
        mask_dir="SegmentationClass",
        split="ImageSets/Segmentation/val.txt",
    )
)
