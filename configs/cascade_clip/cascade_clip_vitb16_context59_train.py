# Training of Cascade-CLIP on the seen classes of Context59: `python tools/train.py
# configs/cascade_clip/cascade_clip_vitb16_context59_train.py` (the paper: 4 GPUs with 4 crops each). mIoU of seen and
# unseen classes every 5,000 iterations.
_base_ = ["../_base_/trained/cascade_clip.py", "../_base_/trained/zero_shot/context59.py"]
model = dict(
    decoder=dict(prompts=35),
    vocabulary=dict(file="context59"),
    training_vocabulary=dict(file="context59"),
    unseen={{_base_.unseen}},
)
