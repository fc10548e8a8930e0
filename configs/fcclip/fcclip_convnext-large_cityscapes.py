# Cityscapes with FC-CLIP, ConvNeXt-L.
_base_ = ["../_base_/trained/fcclip.py", "../_base_/datasets/cityscapes.py", "../_base_/runtime/eval.py"]
model = dict(vocabulary=dict(file="cityscapes"), framing=dict(activate_at="photo"))
test_dataloader = dict(
    dataset=dict(
        pipeline=[
            dict(type="LoadImage"),
            dict(type="LoadMask"),
            dict(type="ResizeShortestEdge", short_side=1024, max_long=2560),
            dict(type="PackInputs"),
        ]
    )
)
