# MESS, PST900: thermal pictures of a tunnel, 288 of them.
_base_ = "./_common.py"
num_classes = 5
data_root = "{{$OVSEG_DATA:data}}/PST900_RGBT_Dataset"
test_dataloader = dict(
    dataset=dict(
        benchmark="mess_pst900",
        classes="mess_pst900",
        data_root=data_root,
        img_dir="test/thermal",
        mask_dir="test/labels",
        img_suffix=".png",
    )
)
