# Training of Cascade-CLIP on the seen classes of COCO-Stuff: `python tools/train.py
# configs/cascade_clip/cascade_clip_vitb16_coco_stuff_train.py` (the paper: 4 GPUs with 4 crops each). mIoU of seen
# and unseen classes every 5,000 iterations.
_base_ = ["../_base_/trained/cascade_clip.py", "../_base_/trained/zero_shot/coco_stuff.py"]
model = dict(
    decoder=dict(prompts=50),
    vocabulary=dict(file="coco_stuff"),
    training_vocabulary=dict(file="coco_stuff"),
    unseen={{_base_.unseen}},
)
