# Pascal Context 459 with FC-CLIP, ConvNeXt-L.
_base_ = ["../_base_/trained/fcclip.py", "../_base_/datasets/pc459.py", "../_base_/runtime/eval.py"]
model = dict(vocabulary=dict(file="pc459"))
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
