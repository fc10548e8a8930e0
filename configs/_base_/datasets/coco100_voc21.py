# 100 photos of COCO val2017 with masks mapped to VOC's 21 names: development only, never called VOC or COCO.
_base_ = "./_common.py"
num_classes = 21
data_root = "{{$OVSEG_SHARED:../shared}}/data/real_mini/coco100"
test_dataloader = dict(
    dataset=dict(
        benchmark="coco100_voc21",
        classes="voc21",
        data_root=data_root,
        img_dir="images",
        mask_dir="masks_voc21",
    )
)
