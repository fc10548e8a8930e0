# scenes_noto: the same words as scenes, drawn by other artists and never trained on: the domain gap of nano.
_base_ = "./scenes.py"
test_dataloader = dict(
    dataset=dict(benchmark="scenes_noto", img_dir="scenes_noto/images", mask_dir="scenes_noto/masks")
)
