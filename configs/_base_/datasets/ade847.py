# ADE20K full val with 847 classes: 16-bit maps in detectron2's layout.
_base_ = "./_common.py"
num_classes = 847
data_root = "{{$OVSEG_DATA:data}}/ADE20K_2021_17_01"
test_dataloader = dict(
    dataset=dict(
        benchmark="ade847",
        classes="ade847",
        data_root=data_root,
        img_dir="images_detectron2/validation",
        mask_dir="annotations_detectron2/validation",
        mask_suffix=".tif",
        ignore_index=65535,
    )
)
