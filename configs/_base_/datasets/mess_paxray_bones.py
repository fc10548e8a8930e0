# MESS, PAXRay-4, bones: chest X-rays, 180 of them; PAXRay-4 is the mean of four such sets, whose masks overlap.
_base_ = "./_common.py"
num_classes = 2
data_root = "{{$OVSEG_DATA:data}}/paxray_dataset"
test_dataloader = dict(
    dataset=dict(
        benchmark="mess_paxray_bones",
        classes="mess_paxray_bones",
        data_root=data_root,
        img_dir="images",
        mask_dir="annotations_detectron2/test/bones",
        img_suffix=".png",
        split="annotations_detectron2/test.txt",
    )
)
