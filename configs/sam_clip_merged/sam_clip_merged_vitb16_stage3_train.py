# Training of SAM-CLIP, a short third stage, from the file of the second: `python tools/train.py
# configs/sam_clip_merged/sam_clip_merged_vitb16_stage3_train.py --cfg-options load_from=FILE`. The head alone learns
# once more, on photos at a high resolution.
_base_ = "./sam_clip_merged_vitb16_stage1_train.py"
max_iters = 5_000
load_from = "work_dirs/sam_clip_merged_vitb16_stage2_train/iter_100000.pth"
train_dataloader = dict(
    batch_size=8,
    dataset=dict(
        pipeline=[
            dict(type="LoadImage"),
            dict(type="ResizePIL", short_side=1024, center_crop=True),
            dict(type="PackInputs"),
        ]
    ),
)
train_cfg = dict(max_iters=max_iters, val_interval=2_500)
optim_wrapper = dict(optimizer=dict(lr=4e-5))
param_scheduler = [
    dict(type="LinearLR", start_factor=1e-3, begin=0, end=100, by_epoch=False),
    dict(type="CosineAnnealingLR", eta_min=0.0, begin=100, end=max_iters, by_epoch=False),
]
work_dir = "work_dirs/sam_clip_merged_vitb16_stage3_train"
