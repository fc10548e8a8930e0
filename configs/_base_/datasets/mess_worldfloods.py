# MESS, WorldFloods: Sentinel-2 (infrared, red, blue, as MESS takes them), 160 tiles of 1,024 pixels.
_base_ = "./_common.py"
num_classes = 3
data_root = "{{$OVSEG_DATA:data}}/WorldFloods"
test_dataloader = dict(
    dataset=dict(
        benchmark="mess_worldfloods",
        classes="mess_worldfloods",
        data_root=data_root,
        img_dir="images_detectron2/test/irrg",
        mask_dir="annotations_detectron2/test",
        img_suffix=".png",
    )
)
