# COCO-Stuff 10k (version 1.1), 1,000 test photos, 171 classes; 0 in the label maps is unlabelled.
_base_ = "./_common.py"
num_classes = 171
data_root = "{{$OVSEG_DATA:data}}/coco_stuff10k"
test_dataloader = dict(
    dataset=dict(
        benchmark="coco_stuff10k",
        classes="coco_stuff",
        data_root=data_root,
        img_dir="images",
        mask_dir="annotations_png",
        mask_suffix="_labelTrainIds.png",
        split="imageLists/test.txt",
        reduce_zero_label=True,
    )
)
