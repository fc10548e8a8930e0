"""A last stage of nano's CLIP: patches that a guide groups must match their word as well."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

from ovseg.nano.assets import asset
from ovseg.nano.pretrain import ClipPretrainer, self_attention, value_path
from ovseg.ops import correlation_attention
from ovseg.registry import GUIDES, MODELS


def guided_attention(
    visual: nn.Module, x: Tensor, grid: tuple[int, int], features: Tensor, features_grid: tuple[int, int], **rule: float
) -> Tensor:
    """The last block with ProxyCLIP's attention, differentiable (Lan et al., ECCV 2024, equations 5 to 7).

    Args:
        visual: open_clip's vision transformer.
        x: patch tokens that enter the last block, row by row, ``[b, n, width]``.
        grid: their rows and columns.
        features: the guide's unit features ``[b, m, c]``.
        features_grid: their rows and columns.
        rule: ``beta`` and ``gamma`` as of :class:`ovseg.attention.proxy.ProxyAttention`.

    Returns:
        ``out_proj(A v)`` on the guide's grid, ``[b, m, width]``.
    """
    block, width = visual.transformer.resblocks[-1], x.shape[-1]
    weight, bias = block.attn.in_proj_weight[2 * width :], block.attn.in_proj_bias[2 * width :]
    values = F.linear(block.ln_1(x), weight, bias).float().mT.unflatten(2, grid)
    values = F.interpolate(values, size=features_grid, mode="bilinear", align_corners=False).flatten(2).mT
    mixed = correlation_attention(features, values, scale=rule["gamma"], beta=rule["beta"])
    return block.attn.out_proj(mixed)


@MODELS.register_module()
class GuidedClipPretrainer(ClipPretrainer):
    """:class:`ovseg.nano.pretrain.ClipPretrainer` with a fourth way to read patches: ProxyCLIP's attention.

    An eighth of the images is read by the value path, three eighths by a frozen guide's correspondence, a quarter each
    by q-q and k-k attention. Without it the values of patches that show object and ground say "ground", and an average
    over an object's patches does so too. Supervision stays what it was: captions; the guide has seen images only.

    Args:
        start: safetensors file of a trained CLIP to go on from.
        guide: config of a registered guide.
        beta, gamma: ProxyCLIP's.
        settings: of ``ClipPretrainer``; all patches are kept.
    """

    def __init__(self, start: str, guide: dict, beta: float = 1.2, gamma: float = 3.0, **settings: object) -> None:
        super().__init__(**settings, keep=1.0)
        self.clip.load_state_dict(load_file(asset(start)))
        self._guide = [GUIDES.build(guide)]  # in a list: no part of the checkpoint
        self.beta, self.gamma = beta, gamma

    def read_patches(self, x: Tensor, images: Tensor, kept: Tensor) -> Tensor:
        """As in the base class; the guide's grid is finer, so as many of its patches as the others have are drawn."""
        visual, b = self.clip.visual, len(x)
        first, second, third = b // 8, b // 2, b // 2 + b // 4
        value, guided = value_path(visual, x[:first, 1:]), slice(first, second)
        mean, std = self.mean[:, :, None], self.std[:, :, None]
        with torch.no_grad():
            guide = self._guide[0]((images[guided] - mean) / std, mean, std)
        in_order = x[guided, 1:].gather(1, kept[guided].argsort(dim=1)[..., None].expand(-1, -1, x.shape[-1]))
        grid = tuple(n // p for n, p in zip(images.shape[2:], visual.patch_size, strict=True))
        mixed = guided_attention(visual, in_order, grid, guide.patches, guide.grid, beta=self.beta, gamma=self.gamma)
        drawn = torch.rand(mixed.shape[:2], device=mixed.device).argsort(dim=1)[:, : x.shape[1] - 1]
        mixed = mixed.gather(1, drawn[..., None].expand(-1, -1, mixed.shape[-1])).to(value.dtype)
        queries = self_attention(visual, x[second:third], "q")[:, 1:]
        keys = self_attention(visual, x[third:], "k")[:, 1:]
        return torch.cat([value, mixed, queries, keys])
