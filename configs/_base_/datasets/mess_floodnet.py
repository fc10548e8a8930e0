# MESS, FloodNet: after a hurricane, from a drone, 5,571 tiles of 1,024 pixels (.jpg: as MESS writes them).
_base_ = "./_common.py"
num_classes = 10
data_root = "{{$OVSEG_DATA:data}}/FloodNet-Supervised_v1.0"
test_dataloader = dict(
    dataset=dict(
        benchmark="mess_floodnet",
        classes="mess_floodnet",
        data_root=data_root,
        img_dir="images_detectron2/test",
        mask_dir="annotations_detectron2/test",
        img_suffix=[".png", ".jpg"],
    )
)
