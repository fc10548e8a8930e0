# Pascal Context val with all 459 classes: 16-bit maps in detectron2's layout.
_base_ = "./_common.py"
num_classes = 459
data_root = "{{$OVSEG_DATA:data}}/VOCdevkit/VOC2010"
test_dataloader = dict(
    dataset=dict(
        benchmark="pc459",
        classes="pc459",
        data_root=data_root,
        img_dir="JPEGImages",
        mask_dir="annotations_detectron2/pc459_val",
        mask_suffix=".tif",
        split="ImageSets/SegmentationContext/pc459_val.txt",
        ignore_index=65535,
    )
)
