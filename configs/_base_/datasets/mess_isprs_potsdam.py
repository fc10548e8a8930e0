# MESS, ISPRS Potsdam: infrared, red and green from the air, 504 tiles of 1,024 pixels.
_base_ = "./_common.py"
num_classes = 6
data_root = "{{$OVSEG_DATA:data}}/ISPRS_Potsdam"
test_dataloader = dict(
    dataset=dict(
        benchmark="mess_isprs_potsdam",
        classes="mess_isprs_potsdam",
        data_root=data_root,
        img_dir="images_detectron2/test/irrg",
        mask_dir="annotations_detectron2/test",
        img_suffix=".png",
    )
)
