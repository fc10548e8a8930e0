# MESS, MHP v1: parts of people and their clothes, 980 photos.
_base_ = "./_common.py"
num_classes = 19
data_root = "{{$OVSEG_DATA:data}}/LV-MHP-v1"
test_dataloader = dict(
    dataset=dict(
        benchmark="mess_mhp_v1",
        classes="mess_mhp_v1",
        data_root=data_root,
        img_dir="images",
        mask_dir="annotations_detectron2/test",
        split="annotations_detectron2/test.txt",
    )
)
