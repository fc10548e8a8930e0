# Pascal Context 459 with MAFT+, ConvNeXt-L.
_base_ = ["../_base_/trained/maft_plus.py", "../_base_/datasets/pc459.py", "../_base_/runtime/eval.py"]
model = dict(
    vocabulary=dict(file="pc459"),
    backbone=dict(weights="maft_plus/large"),
    decoder=dict(weights="maft_plus/large"),
)
test_dataloader = dict(
    dataset=dict(
        pipeline=[
            dict(type="LoadImage"),
            dict(type="LoadMask"),
            dict(type="ResizeShortestEdge", short_side=800, max_long=1333),
            dict(type="PackInputs"),
        ]
    )
)
