# What all benchmarks share: the mm family's pipeline (METHODS 0) and mmsegmentation's names for its parts.
# A method config changes the resolution with one line, `short_side = 448`; also `--cfg-options short_side=448`.
dataset_type = "SegmentationDataset"
short_side = 336
test_pipeline = [
    dict(type="LoadImage"),
    dict(type="LoadMask"),
    dict(type="ResizeShortSide", short_side=short_side, max_long=2048),
    dict(type="PackInputs"),
]
test_dataloader = dict(
    batch_size=1,
    num_workers=2,
    sampler=dict(type="EvalSampler"),
    collate_fn=dict(type="pseudo_collate"),
    dataset=dict(type=dataset_type, pipeline=test_pipeline),
)
test_evaluator = dict(type="SegMetric")
