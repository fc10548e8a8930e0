# MESS, UAVid: streets from a drone, 840 tiles of 1,024 pixels.
_base_ = "./_common.py"
num_classes = 8
data_root = "{{$OVSEG_DATA:data}}/uavid_v1.5"
test_dataloader = dict(
    dataset=dict(
        benchmark="mess_uavid",
        classes="mess_uavid",
        data_root=data_root,
        img_dir="images_detectron2/val",
        mask_dir="annotations_detectron2/val",
        img_suffix=".png",
    )
)
