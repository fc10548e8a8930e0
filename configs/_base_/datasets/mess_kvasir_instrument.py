# MESS, Kvasir-Instrument: tools in endoscopy, 118 photos.
_base_ = "./_common.py"
num_classes = 2
data_root = "{{$OVSEG_DATA:data}}/kvasir-instrument"
test_dataloader = dict(
    dataset=dict(
        benchmark="mess_kvasir_instrument",
        classes="mess_kvasir_instrument",
        data_root=data_root,
        img_dir="images",
        mask_dir="annotations_detectron2/test",
        split="test.txt",
    )
)
