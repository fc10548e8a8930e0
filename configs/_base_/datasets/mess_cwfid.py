# MESS, CWFID: carrots and weeds, 21 photos.
_base_ = "./_common.py"
num_classes = 3
data_root = "{{$OVSEG_DATA:data}}/cwfid"
test_dataloader = dict(
    dataset=dict(
        benchmark="mess_cwfid",
        classes="mess_cwfid",
        data_root=data_root,
        img_dir="images",
        mask_dir="annotations_detectron2/test",
        img_suffix="_image.png",
        mask_suffix="_annotation.png",
        split="{{ fileDirname }}/mess_splits/cwfid.txt",
    )
)
