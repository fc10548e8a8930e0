# Training of ZegCLIP on the seen classes of VOC20: `python tools/train.py
# configs/zegclip/zegclip_vitb16_voc20_train.py` (the paper: 4 GPUs with 4 crops each). mIoU of seen and unseen
# classes every 5,000 iterations.
_base_ = ["../_base_/trained/zegclip.py", "../_base_/trained/zero_shot/voc20.py"]
model = dict(
    decoder=dict(prompts=10),
    vocabulary=dict(file="voc20"),
    training_vocabulary=dict(file="voc20"),
    unseen={{_base_.unseen_words}},
)
