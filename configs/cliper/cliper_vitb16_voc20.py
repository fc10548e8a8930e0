# VOC20 with CLIPer without diffusion, whole photo, OpenAI ViT-B/16.
# No background class: pixels that no class claims take the largest map (the official code leaves them wrong).
_base_ = ["../_base_/models/cliper.py", "../_base_/datasets/voc20.py", "../_base_/runtime/eval.py"]
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
    vocabulary=dict(
        names=[
            "aeroplane",
            "bicycle",
            "bird avian",
            "boat",
            "bottle",
            "bus",
            "car",
            "cat",
            "chair seat",
            "cow",
            "diningtable",
            "dog",
            "horse",
            "motorbike",
            "person with clothes, people, human",
            "pottedplant",
            "sheep",
            "sofa",
            "train",
            "tvmonitor screen",
        ]
    ),
    stitch=dict(
        threshold=0.1,
        logit_scale=100,
        # VOC21's background words, which are no classes here
        distractors=[
            "ground",
            "land",
            "grass",
            "tree",
            "building",
            "wall",
            "sky",
            "lake",
            "water",
            "river",
            "sea",
            "railway",
            "railroad",
            "keyboard",
            "helmet",
            "cloud",
            "house",
            "mountain",
            "ocean",
            "road",
            "rock",
            "street",
            "valley",
            "bridge",
            "sign",
        ],
    ),
    head=dict(threshold=0, score_threshold=0, normalise=False, background=None),
)
