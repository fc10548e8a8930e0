# ADE20K (150 classes) with FC-CLIP, ConvNeXt-L.
_base_ = ["../_base_/trained/fcclip.py", "../_base_/datasets/ade20k.py", "../_base_/runtime/eval.py"]
model = dict(vocabulary=dict(file="ade20k"), framing=dict(activate_at="photo"))
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
