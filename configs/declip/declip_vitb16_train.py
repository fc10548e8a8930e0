# Training of DeCLIP, OpenAI ViT-B/16: as declip_eva-vitb16_train.py.
_base_ = "./declip_eva-vitb16_train.py"
model = dict(
    student=dict(backbone=dict(weights="openai/ViT-B-16"), attention=dict(scaled=True)),
    unit_content=True,
    trained=[
        "clip.visual.transformer.resblocks.[0-9].*",
        "clip.visual.transformer.resblocks.10.*",
        "clip.visual.transformer.resblocks.11.ln_1.*",
        "clip.visual.transformer.resblocks.11.attn.*",
    ],
)
optim_wrapper = dict(optimizer=dict(betas=(0.9, 0.98), eps=1e-6))
