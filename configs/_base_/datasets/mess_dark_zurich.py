# MESS, Dark Zurich: streets at night, 50 photos; unlabelled is a class here.
_base_ = "./_common.py"
num_classes = 20
data_root = "{{$OVSEG_DATA:data}}/Dark_Zurich"
test_dataloader = dict(
    dataset=dict(
        benchmark="mess_dark_zurich",
        classes="mess_dark_zurich",
        data_root=data_root,
        img_dir="rgb_anon/val/night/GOPR0356",
        mask_dir="annotations_detectron2/val",
        img_suffix="_rgb_anon.png",
        mask_suffix="_gt_labelIds.png",
    )
)
