# MESS, iSAID: aerial photos in 4,055 tiles of 1,024 pixels.
_base_ = "./_common.py"
num_classes = 16
data_root = "{{$OVSEG_DATA:data}}/isaid"
test_dataloader = dict(
    dataset=dict(
        benchmark="mess_isaid",
        classes="mess_isaid",
        data_root=data_root,
        img_dir="images_detectron2/val",
        mask_dir="annotations_detectron2/val",
        img_suffix=".png",
    )
)
