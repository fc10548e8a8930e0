# SegEarth-OV (Li et al., CVPR 2025): q-q, k-k and v-v attention, features upsampled, minus the class token's score.
model = dict(
    type="OpenVocabSegmentor",
    backbone=dict(type="ClipBackbone", weights="openai/ViT-B-16", pos_embed="scale"),
    attention=dict(type="SelfSelfAttention", terms=("q", "k", "v"), residual=False, ffn=False),
    stitch=dict(type="UpsampledStitch", upsampler="segearth/jbu_one", weight=-0.3),
    templates="openai_80",
    windows=dict(crop=224, stride=112, pad_multiple=16),
    head=dict(type="MaxQueryHead", logit_scale=50),
)
