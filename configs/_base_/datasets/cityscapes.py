# Cityscapes val, 500 photos of 1024 x 2048, 19 train ids.
_base_ = "./_common.py"
num_classes = 19
data_root = "{{$OVSEG_DATA:data}}/cityscapes"
test_dataloader = dict(
    dataset=dict(
        benchmark="cityscapes",
        classes="cityscapes",
        data_root=data_root,
        img_dir="leftImg8bit/val",
        mask_dir="gtFine/val",
        img_suffix="_leftImg8bit.png",
        mask_suffix="_gtFine_labelTrainIds.png",
    )
)
