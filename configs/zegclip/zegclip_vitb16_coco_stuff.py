# COCO-Stuff with ZegCLIP, ViT-B/16, judged on seen and unseen classes.
# No weights are published in this form: train them and give the file that `tools/publish_decoder.py --layout training`
# makes of the checkpoint: --cfg-options model.decoder.checkpoint=FILE
_base_ = ["../_base_/trained/zegclip.py", "../_base_/datasets/coco_stuff.py", "../_base_/runtime/eval.py"]
short_side = 512
unseen = [
    "cow",
    "giraffe",
    "suitcase",
    "frisbee",
    "skateboard",
    "carrot",
    "scissors",
    "cardboard",
    "clouds",
    "grass",
    "playingfield",
    "river",
    "road",
    "tree",
    "wall-concrete",
]
model = dict(
    decoder=dict(weights="zegclip/coco_stuff", prompts=50),
    vocabulary=dict(file="coco_stuff"),
    training_vocabulary=dict(file="coco_stuff"),
    unseen=unseen,
)
test_evaluator = dict(type="SplitMetric", unseen=unseen)
