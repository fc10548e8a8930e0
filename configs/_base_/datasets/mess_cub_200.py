# MESS, CUB-200: 200 kinds of birds, 5,794 photos.
_base_ = "./_common.py"
num_classes = 201
data_root = "{{$OVSEG_DATA:data}}/CUB_200_2011"
test_dataloader = dict(
    dataset=dict(
        benchmark="mess_cub_200",
        classes="mess_cub_200",
        data_root=data_root,
        img_dir="images",
        mask_dir="annotations_detectron2/test",
        split="annotations_detectron2/test.txt",
    )
)
