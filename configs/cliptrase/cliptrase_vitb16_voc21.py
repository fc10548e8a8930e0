# VOC21 with CLIPtrase at 224 px, OpenAI ViT-B/16; labels are judged on the central square.
_base_ = ["../_base_/models/cliptrase.py", "../_base_/datasets/voc21.py", "../_base_/runtime/eval.py"]
short_side = 224
test_dataloader = dict(
    dataset=dict(
        pipeline=[
            dict(type="LoadImage"),
            dict(type="LoadMask"),
            dict(type="ResizePIL", short_side=short_side, center_crop=True),
            dict(type="PackInputs"),
        ]
    )
)
model = dict(
    vocabulary=dict(
        # dataset order: the background first (the official code counts it last); "bed" twice and "beachhill" are theirs
        names=[
            "background; sky; wall; white; tree; wood; grass; road; trail; sea; river; water; box; signboard; "
            "mountain; sands; bed; bed; building; cloud; lamp; door; window; wardrobe; ceiling; shelf; curtain; "
            "stair; floor; ground; beachhill; rail; fence",
            "aeroplane",
            "bicycle",
            "bird",
            "boat",
            "bottle",
            "bus",
            "car",
            "cat",
            "chair",
            "cow",
            "diningtable",
            "dog",
            "horse",
            "motorbike",
            "person",
            "pottedplant",
            "sheep",
            "sofa",
            "train",
            "tv",
        ],
        background=0,
        allow_duplicates=True,
    ),
)
