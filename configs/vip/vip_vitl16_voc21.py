# VOC21 with VIP, dino.txt on DINOv3 ViT-L/16.
_base_ = ["../_base_/models/vip.py", "../_base_/datasets/voc21.py", "../_base_/runtime/eval.py"]
short_side = 336
model = dict(
    vocabulary=dict(file="voc21_proxyclip", background=0),
    stitch=dict(tau=3, temperature=0.3),
    head=dict(threshold=0.28),
)
