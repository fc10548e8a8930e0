# MESS, SUIM: under water, 110 photos.
_base_ = "./_common.py"
num_classes = 8
data_root = "{{$OVSEG_DATA:data}}/SUIM"
test_dataloader = dict(
    dataset=dict(
        benchmark="mess_suim",
        classes="mess_suim",
        data_root=data_root,
        img_dir="TEST/images",
        mask_dir="annotations_detectron2/test",
    )
)
