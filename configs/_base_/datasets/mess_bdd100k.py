# MESS, BDD100K: streets seen from cars, 1,000 photos.
_base_ = "./_common.py"
num_classes = 19
data_root = "{{$OVSEG_DATA:data}}/bdd100k"
test_dataloader = dict(
    dataset=dict(
        benchmark="mess_bdd100k",
        classes="mess_bdd100k",
        data_root=data_root,
        img_dir="images/10k/val",
        mask_dir="labels/sem_seg/masks/val",
    )
)
