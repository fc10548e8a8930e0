# CLIPtrase (Shao et al., ECCV 2024): self-correlation attention; clusters of patches vote for one label. Photos come as
# a central square of the short side; labels are judged there (ResizePIL(center_crop=True)).
model = dict(
    type="OpenVocabSegmentor",
    backbone=dict(type="ClipBackbone", weights="openai/ViT-B-16", pos_embed="scale"),
    attention=dict(type="SelfCorrelationAttention", affinity_layer=-2, terms=("q", "k", "v"), residual=True, ffn=True),
    templates="openai_80",
    windows=dict(crop=None),
    stitch=dict(type="AffinityStitch"),
    head=dict(type="MaxQueryHead", logit_scale=100, background=None),
    label_refiners=[dict(type="ClusterVote", eps=0.7, min_samples=3)],
)
