# VOC20 with a tower tuned by DeCLIP, EVA-02 CLIP B/16.
# Windows and sizes are ovseg's own: the authors' evaluation is not published.
_base_ = ["../_base_/trained/declip.py", "../_base_/datasets/voc20.py", "../_base_/runtime/eval.py"]
short_side = 448
model = dict(
    vocabulary=dict(file="voc20"),
)
