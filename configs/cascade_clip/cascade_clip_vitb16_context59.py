# Context59 with Cascade-CLIP, ViT-B/16, judged on seen and unseen classes.
# No weights are published in this form: train them and give the file that `tools/publish_decoder.py --layout training`
# makes of the checkpoint: --cfg-options model.decoder.checkpoint=FILE
_base_ = ["../_base_/trained/cascade_clip.py", "../_base_/datasets/context59.py", "../_base_/runtime/eval.py"]
short_side = 512
unseen = [
    "aeroplane",
    "bird",
    "boat",
    "cat",
    "cow",
    "fence",
    "keyboard",
    "motorbike",
    "sofa",
    "tvmonitor",
]
model = dict(
    decoder=dict(weights="cascade_clip/context59", prompts=35),
    vocabulary=dict(file="context59"),
    training_vocabulary=dict(file="context59"),
    unseen=unseen,
)
test_evaluator = dict(type="SplitMetric", unseen=unseen)
