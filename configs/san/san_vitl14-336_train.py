# Training of SAN, OpenAI ViT-L/14 at 336 pixels: as san_vitb16_train.py.
_base_ = "./san_vitb16_train.py"
model = dict(
    backbone=dict(weights="openai/ViT-L-14-336"),
    decoder=dict(split=18, clip_scale=0.7, fusion=((0, 0), (6, 1), (12, 2), (18, 3))),
)
