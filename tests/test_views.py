"""Views of a window."""

import pytest
import torch
import torch.nn.functional as F

from ovseg.queries import Queries
from ovseg.structures import FeatureMap
from ovseg.views import ImageEngineering


def encode(windows):
    """Patch means of 4 x 4 pixels and a place that tells left from right: not equivariant to flips."""
    patches = F.avg_pool2d(windows, 4)
    h, w = patches.shape[-2:]
    place = torch.arange(h * w, dtype=torch.float32).view(1, 1, h, w).expand(len(windows), -1, -1, -1)
    tokens = torch.cat([patches, place / 7], dim=1).flatten(2).transpose(1, 2)
    return FeatureMap(tokens, (h, w))


def classify(features):
    text = F.normalize(torch.tensor([[1.0, 0.2, -0.3, 0.1], [-0.5, 1.0, 0.4, 0.6]]), dim=-1)
    tokens = F.normalize(features.patches, dim=-1)
    return (text @ tokens.transpose(1, 2)).unflatten(2, features.grid)


def test_views_follow_the_definition():
    windows = torch.randn(2, 3, 24, 32, generator=torch.Generator().manual_seed(0))
    grey = (windows * torch.tensor([0.2989, 0.587, 0.114]).view(3, 1, 1)).sum(1, keepdim=True).expand(-1, 3, -1, -1)
    ramp = torch.arange(-5, 6, dtype=torch.float32)
    kernel = torch.exp(-(ramp**2) / (2 * 5.0**2))
    kernel = kernel / kernel.sum()
    padded = F.pad(windows, (5, 5, 5, 5), mode="reflect")
    blurred = F.conv2d(padded, (kernel[:, None] * kernel).expand(3, 1, -1, -1), groups=3)

    views = [F.normalize(encode(v).patches, dim=-1) for v in (windows, grey, blurred)]
    text = F.normalize(torch.tensor([[1.0, 0.2, -0.3, 0.1], [-0.5, 1.0, 0.4, 0.6]]), dim=-1)
    first = ((sum(views) / 3) @ text.T).transpose(1, 2).unflatten(2, (6, 8))
    vertical = classify(encode(windows.flip(2))).flip(2)
    horizontal = classify(encode(windows.flip(3))).flip(3)
    want = 0.7 * first + 0.3 * (vertical + horizontal) / 2
    got = Queries(text, torch.arange(2), 2).products(ImageEngineering(weight=0.7)(windows, encode))
    torch.testing.assert_close(got, want, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("options", [dict(weight=2), dict(kernel_size=4), dict(sigma=0)])
def test_views_refuse(options):
    with pytest.raises(ValueError, match="weight|odd"):
        ImageEngineering(**options)
