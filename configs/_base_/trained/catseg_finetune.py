# Finetuning CAT-Seg on a folder of one's own, from the released weights; see configs/finetune/.
_base_ = ["./catseg.py", "./finetune.py"]
model = dict(
    backbone=dict(split_projections=True),
    training_framing=dict(type="WholePhoto", side=384, cut_padding=False),
    loss=dict(type="BinaryMapLoss", ignore=True),
    trained=["decoder.*", "backbone.clip.*.attn.[qv]_proj_weight"],
    text_cache=False,
)
optim_wrapper = dict(
    optimizer=dict(lr=1e-4, weight_decay=1e-4),
    clip_grad=dict(max_norm=0.01),
    paramwise_cfg=dict(custom_keys={"backbone.clip": dict(lr_mult=0.01)}),
)
