# photos: 26 photos of COCO val2017 that may be passed on, with masks mapped to VOC's 21 names; part of the repository.
_base_ = "./_common.py"
num_classes = 21
data_root = "{{ fileDirname }}/../../../data/photos"
test_dataloader = dict(
    dataset=dict(
        benchmark="photos",
        classes="voc21",
        data_root=data_root,
        img_dir="images",
        mask_dir="masks",
    )
)
