# VOC20 with ZegCLIP, ViT-B/16, judged on seen and unseen classes.
# No weights are published in this form: train them and give the file that `tools/publish_decoder.py --layout training`
# makes of the checkpoint: --cfg-options model.decoder.checkpoint=FILE
_base_ = ["../_base_/trained/zegclip.py", "../_base_/datasets/voc20.py", "../_base_/runtime/eval.py"]
short_side = 512
unseen = ["pottedplant", "sheep", "sofa", "train", "tvmonitor"]
model = dict(
    decoder=dict(weights="zegclip/voc20", prompts=10),
    vocabulary=dict(file="voc20"),
    training_vocabulary=dict(file="voc20"),
    unseen=["potted plant", "sheep", "sofa", "train", "tvmonitor"],  # as the vocabulary writes them
)
test_evaluator = dict(type="SplitMetric", unseen=unseen)
