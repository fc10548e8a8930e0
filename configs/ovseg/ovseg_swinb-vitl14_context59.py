# Pascal Context 59 with OVSeg, Swin-B and CLIP ViT-L/14.
_base_ = ["../_base_/trained/ovseg.py", "../_base_/datasets/context59.py", "../_base_/runtime/eval.py"]
model = dict(vocabulary=dict(file="context59"), decoder=dict(ensemble=0.6))
test_dataloader = dict(
    dataset=dict(
        pipeline=[
            dict(type="LoadImage"),
            dict(type="LoadMask"),
            dict(type="ResizeShortestEdge", short_side=640, max_long=2560),
            dict(type="PackInputs"),
        ]
    )
)
