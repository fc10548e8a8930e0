# CAT-Seg, large: CLIP ViT-L/14 at 336 pixels.
_base_ = "./catseg.py"
model = dict(
    backbone=dict(weights="catseg/large"),
    decoder=dict(weights="catseg/large", guidance_blocks=(7, 15)),
    framing=dict(side=336),
)
