# Cityscapes with dino.txt on DINOv3 ViT-L/16.
_base_ = ["../_base_/models/dinotxt.py", "../_base_/datasets/cityscapes.py", "../_base_/runtime/eval.py"]
short_side = 512
test_dataloader = dict(dataset=dict(pipeline={{_base_._pil_pipeline}}))
model = dict(
    vocabulary=dict(file="cityscapes"),
)
