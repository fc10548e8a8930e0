# MESS, ZeroWaste-f: waste on a belt, 929 photos.
_base_ = "./_common.py"
num_classes = 5
data_root = "{{$OVSEG_DATA:data}}/zerowaste-f"
test_dataloader = dict(
    dataset=dict(
        benchmark="mess_zerowaste",
        classes="mess_zerowaste",
        data_root=data_root,
        img_dir="splits_final_deblurred/test/data",
        mask_dir="splits_final_deblurred/test/sem_seg",
        img_suffix=".png",
    )
)
