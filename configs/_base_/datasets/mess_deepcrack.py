# MESS, DeepCrack: cracks in concrete and asphalt, 237 photos.
_base_ = "./_common.py"
num_classes = 2
data_root = "{{$OVSEG_DATA:data}}/DeepCrack"
test_dataloader = dict(
    dataset=dict(
        benchmark="mess_deepcrack",
        classes="mess_deepcrack",
        data_root=data_root,
        img_dir="test_img",
        mask_dir="test_lab",
        label_map={255: 1},
    )
)
