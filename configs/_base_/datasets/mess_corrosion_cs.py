# MESS, Corrosion CS: bridges of steel, 44 photos.
_base_ = "./_common.py"
num_classes = 4
data_root = "{{$OVSEG_DATA:data}}/Corrosion Condition State Classification"
test_dataloader = dict(
    dataset=dict(
        benchmark="mess_corrosion_cs",
        classes="mess_corrosion_cs",
        data_root=data_root,
        img_dir="original/Test/images",
        mask_dir="original/Test/masks",
        img_suffix=[".jpeg", ".jpg"],
    )
)
