# VOC21 with dino.txt on DINOv3 ViT-L/16.
_base_ = ["../_base_/models/dinotxt.py", "../_base_/datasets/voc21.py", "../_base_/runtime/eval.py"]
short_side = 512
test_dataloader = dict(dataset=dict(pipeline={{_base_._pil_pipeline}}))
model = dict(
    vocabulary=dict(file="voc21_proxyclip", background=0),
)
