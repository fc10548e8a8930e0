# nano on scenes with Trident and its refinement: nano's SAM redraws every component, prompted by point, box and mask.
_base_ = ["./trident_nano_scenes.py"]
model = dict(
    label_refiners=[
        # The mask prompt with its batch axis: nano's SAM never saw the official code's other one.
        dict(type="SamPromptRefiner", coarse_threshold=0.0, iou_threshold=0.6, min_area=40, unbatched_mask=False)
    ],
)
