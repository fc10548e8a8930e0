# VOC20 with OVSeg, Swin-B and CLIP ViT-L/14.
_base_ = ["../_base_/trained/ovseg.py", "../_base_/datasets/voc20.py", "../_base_/runtime/eval.py"]
model = dict(vocabulary=dict(file="voc20"), decoder=dict(ensemble=0.45))
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
