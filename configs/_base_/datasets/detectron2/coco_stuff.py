# COCO-Stuff val, resized as detectron2 does: short side 640, Pillow's bilinear filter.
_base_ = "../coco_stuff.py"
short_side = 640
test_pipeline = [
    dict(type="LoadImage"),
    dict(type="LoadMask"),
    dict(type="ResizeShortestEdge", short_side=short_side, max_long=2560),
    dict(type="PackInputs"),
]
test_dataloader = dict(dataset=dict(pipeline=test_pipeline))
