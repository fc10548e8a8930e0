# MESS, ATLANTIS: water and what stands at it, 1,295 photos; 0 in the label maps is ignored.
_base_ = "./_common.py"
num_classes = 56
data_root = "{{$OVSEG_DATA:data}}/atlantis"
test_dataloader = dict(
    dataset=dict(
        benchmark="mess_atlantis",
        classes="mess_atlantis",
        data_root=data_root,
        img_dir="images/test",
        mask_dir="masks/test",
        reduce_zero_label=True,
    )
)
