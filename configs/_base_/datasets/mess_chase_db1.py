# MESS, CHASE DB1: vessels of the retina, 20 photos, labels of the first observer.
_base_ = "./_common.py"
num_classes = 2
data_root = "{{$OVSEG_DATA:data}}/CHASEDB1"
test_dataloader = dict(
    dataset=dict(
        benchmark="mess_chase_db1",
        classes="mess_chase_db1",
        data_root=data_root,
        img_dir=".",
        mask_dir=".",
        mask_suffix="_1stHO.png",
        split="{{ fileDirname }}/mess_splits/chase_db1.txt",
        label_map={255: 1},
    )
)
