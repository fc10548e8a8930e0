# MESS, PAXRay-4, mediastinum: chest X-rays, 180 of them; PAXRay-4 is the mean of four such sets, whose masks overlap.
_base_ = "./_common.py"
num_classes = 2
data_root = "{{$OVSEG_DATA:data}}/paxray_dataset"
test_dataloader = dict(
    dataset=dict(
        benchmark="mess_paxray_mediastinum",
        classes="mess_paxray_mediastinum",
        data_root=data_root,
        img_dir="images",
        mask_dir="annotations_detectron2/test/mediastinum",
        img_suffix=".png",
        split="annotations_detectron2/test.txt",
    )
)
