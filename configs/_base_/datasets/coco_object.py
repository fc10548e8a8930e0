# COCO-Object: background and the 80 things of COCO-Stuff 164k val2017.
_base_ = "./_common.py"
num_classes = 81
data_root = "{{$OVSEG_DATA:data}}/coco_object"
test_dataloader = dict(
    dataset=dict(
        benchmark="coco_object",
        classes="coco_object",
        data_root=data_root,
        img_dir="images/val2017",
        mask_dir="annotations/val2017",
        mask_suffix="_instanceTrainIds.png",
    )
)
