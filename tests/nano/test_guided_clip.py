"""Training reads patches as ProxyCLIP does; the guide stays out of the checkpoint."""

import json

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from ovseg.attention.proxy import ProxyAttention
from ovseg.backbones.towers import build_tower
from ovseg.nano.guided_clip import GuidedClipPretrainer, guided_attention
from ovseg.nano.pretrain import build_clip
from ovseg.structures import AttentionContext, FeatureMap
from tests.nano.test_pretrain import TINY


@pytest.fixture
def start(tmp_path):
    (tmp_path / "clip.json").write_text(json.dumps(TINY))
    torch.manual_seed(0)
    save_file(build_clip(tmp_path / "clip.json").state_dict(), tmp_path / "clip.safetensors")
    return dict(clip=str(tmp_path / "clip.json"), start=str(tmp_path / "clip.safetensors"))


@torch.no_grad()
def test_it_is_proxyclips_attention(start):
    visual = build_clip(start["clip"]).visual.eval()
    x = torch.randn(3, 1 + 4, 64)
    features = F.normalize(torch.randn(3, 16, 8), dim=-1)
    ours = guided_attention(visual, x[:, 1:], (2, 2), features, (4, 4), beta=1.2, gamma=3.0)
    context = AttentionContext(x=x, grid=(2, 2), tower=build_tower(visual), guide=FeatureMap(features, (4, 4)))
    assert torch.allclose(ours, ProxyAttention()(context).patches, atol=1e-5)


def test_losses_reach_clip_and_not_the_guide(start):
    torch.manual_seed(0)
    guide = dict(type="DinoBackbone", weights="nano_guide")
    model = GuidedClipPretrainer(**start, guide=guide, autocast=False, bank=["rose"])
    assert all(name.startswith("clip.") for name in model.state_dict())
    images = torch.randint(0, 256, (8, 3, 32, 32), dtype=torch.uint8)
    losses = model(images, [["dog", "grass"], ["cat", "grass"], ["dog"], ["cat", "snow"]] * 2)
    assert all(torch.isfinite(loss) for loss in losses.values())
    sum(loss for name, loss in losses.items() if "loss" in name).backward()
    assert not [name for name, weight in model.clip.named_parameters() if weight.grad is None]
    assert not any(weight.requires_grad for weight in model._guide[0].parameters())


@torch.no_grad()
def test_the_order_of_the_patches_does_not_matter_to_the_guide(start):
    model = GuidedClipPretrainer(**start, guide=dict(type="DinoBackbone", weights="nano_guide"), autocast=False).eval()
    images = torch.randint(0, 256, (8, 3, 32, 32), dtype=torch.uint8)
    x = torch.randn(8, 1 + 4, 64)
    order = torch.tensor([2, 0, 3, 1])

    def guided(kept):
        torch.manual_seed(1)
        tokens = torch.cat([x[:, :1], x[:, 1:][:, kept]], dim=1)
        return model.read_patches(tokens, images, kept.expand(8, -1))[1:4]

    assert torch.allclose(guided(torch.arange(4)), guided(order), atol=1e-5)
