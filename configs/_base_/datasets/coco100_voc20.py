# coco100_voc21 without its background: those pixels are ignored, as in VOC20. Development only.
_base_ = "./_common.py"
num_classes = 20
data_root = "{{$OVSEG_SHARED:../shared}}/data/real_mini/coco100"
test_dataloader = dict(
    dataset=dict(
        benchmark="coco100_voc20",
        classes="voc20",
        data_root=data_root,
        img_dir="images",
        mask_dir="masks_voc21",
        reduce_zero_label=True,
    )
)
