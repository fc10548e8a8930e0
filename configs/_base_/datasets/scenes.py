# scenes: the embedded mini benchmark (nano's sprites in new compositions), part of the repository.
_base_ = "./_common.py"
short_side = None  # images are evaluated at their own size: nano was trained at this scale
test_pipeline = [dict(type="LoadImage"), dict(type="LoadMask"), dict(type="PackInputs")]
num_classes = 180
data_root = "{{ fileDirname }}/../../../data/scenes"
test_dataloader = dict(
    dataset=dict(
        pipeline=test_pipeline,
        benchmark="scenes",
        classes=data_root + "/classes.txt",
        data_root=data_root,
        img_dir="scenes/images",
        mask_dir="scenes/masks",
    )
)
