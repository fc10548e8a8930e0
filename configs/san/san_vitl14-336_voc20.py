# VOC20 (PAS-20) with SAN, OpenAI ViT-L/14 at 336 pixels. The authors say "tv" for "tvmonitor".
_base_ = [
    "../_base_/trained/san_large.py",
    "../_base_/datasets/detectron2/voc20.py",
    "../_base_/runtime/eval.py",
]
model = dict(
    vocabulary=dict(file="voc20_joined"),
)
