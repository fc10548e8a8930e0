# COCO-Stuff with CLIPer without diffusion, whole photo, OpenAI ViT-B/16.
# No background class: pixels that no class claims take the largest map (the official code leaves them wrong).
_base_ = ["../_base_/models/cliper.py", "../_base_/datasets/coco_stuff.py", "../_base_/runtime/eval.py"]
short_side = 336
test_dataloader = dict(
    dataset=dict(
        pipeline=[
            dict(type="LoadImage"),
            dict(type="LoadMask"),
            dict(type="ResizePIL", short_side=short_side, multiple_of=16),
            dict(type="PackInputs"),
        ]
    )
)
model = dict(
    vocabulary=dict(file="coco_stuff"),
    stitch=dict(threshold=0.2, logit_scale=50),
    head=dict(threshold=0, score_threshold=0.1, normalise=False, background=None),
)
