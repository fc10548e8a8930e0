# Context59 with CLIPtrase at 336 px, OpenAI ViT-B/16.
_base_ = ["./cliptrase_vitb16_context59.py"]
short_side = 336
model = dict(label_refiners=[dict(type="ClusterVote", eps=1.1, min_samples=7)])
