# COCO-Stuff 164k val2017, 171 classes.
_base_ = "./_common.py"
num_classes = 171
data_root = "{{$OVSEG_DATA:data}}/coco_stuff164k"
test_dataloader = dict(
    dataset=dict(
        benchmark="coco_stuff",
        classes="coco_stuff",
        data_root=data_root,
        img_dir="images/val2017",
        mask_dir="annotations/val2017",
        mask_suffix="_labelTrainIds.png",
    )
)
