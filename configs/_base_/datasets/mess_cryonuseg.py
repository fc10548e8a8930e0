# MESS, CryoNuSeg: nuclei in sections of tissue, 30 photos.
_base_ = "./_common.py"
num_classes = 2
data_root = "{{$OVSEG_DATA:data}}/CryoNuSeg"
annotator = "Annotator 1 (biologist second round of manual marks up)"
test_dataloader = dict(
    dataset=dict(
        benchmark="mess_cryonuseg",
        classes="mess_cryonuseg",
        data_root=data_root,
        img_dir="tissue images",
        mask_dir=f"{annotator}/{annotator}/mask binary",
        img_suffix=".tif",
        label_map={255: 1},
    )
)
