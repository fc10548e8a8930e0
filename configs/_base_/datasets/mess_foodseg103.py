# MESS, FoodSeg103: food on plates, 2,125 photos.
_base_ = "./_common.py"
num_classes = 104
data_root = "{{$OVSEG_DATA:data}}/FoodSeg103"
test_dataloader = dict(
    dataset=dict(
        benchmark="mess_foodseg103",
        classes="mess_foodseg103",
        data_root=data_root,
        img_dir="Images/img_dir/test",
        mask_dir="Images/ann_dir/test",
    )
)
