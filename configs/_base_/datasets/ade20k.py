# ADE20K SceneParsing-150 val: the semantic maps, in which 0 is ignored.
_base_ = "./_common.py"
num_classes = 150
data_root = "{{$OVSEG_DATA:data}}/ade/ADEChallengeData2016"
test_dataloader = dict(
    dataset=dict(
        benchmark="ade20k",
        classes="ade20k",
        data_root=data_root,
        img_dir="images/validation",
        mask_dir="annotations/validation",
        reduce_zero_label=True,
    )
)
