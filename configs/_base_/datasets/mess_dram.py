# MESS, DRAM: paintings, 718 of them; the labels of VOC, of which 11 are classes, the rest background (class 11).
_base_ = "./_common.py"
num_classes = 12
data_root = "{{$OVSEG_DATA:data}}/DRAM_processed"
test_dataloader = dict(
    dataset=dict(
        benchmark="mess_dram",
        classes="mess_dram",
        data_root=data_root,
        img_dir="test",
        mask_dir="labels",
        label_map={
            **dict.fromkeys((0, 1, 2, 6, 7, 11, 14, 18, 19, 20), 11),
            **{3: 0, 4: 1, 5: 2, 8: 3, 9: 4, 10: 5, 12: 6, 13: 7, 15: 8, 16: 9, 17: 10},
        },
    )
)
