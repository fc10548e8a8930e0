# dino.txt (Jose et al., CVPR 2025) on DINOv3: two trained blocks on the frozen network, and their own text tower.
# The authors' notebook for segmentation takes tokens="backbone"; the words were trained with the blocks' tokens.
model = dict(
    type="OpenVocabSegmentor",
    backbone=dict(type="DinoTxtBackbone", weights="dinov3/vitl16", text="dinotxt/vitl16", tokens="head"),
    attention=dict(type="PlainAttention"),
    templates="openai_80",
    windows=dict(crop=384, stride=192, stretch_multiple=16),
    stitch=dict(type="SoftmaxStitch", scale=1.0),
    head=dict(type="MaxQueryHead", softmax=False),
    supervision="DINOv3: images only; dino.txt's blocks and text tower: image-text pairs",
)
# Photos are resized as by the authors' notebook; each benchmark's config takes this.
_pil_pipeline = [
    dict(type="LoadImage"),
    dict(type="LoadMask"),
    dict(type="ResizePIL", short_side=512),
    dict(type="PackInputs"),
]
