"""The few records that travel between the components of the pipeline."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor, nn

from ovseg.windows import WindowLayout


@dataclass
class FeatureMap:
    """Token features of a batch of windows on a regular grid.

    Attributes:
        tokens: ``[B, P + h * w, C]``; ``P`` prefix tokens (CLS, registers) first, then the patches row by row.
        grid: ``(h, w)`` in patches.
        num_prefix: ``P``.
        affinity: ``[B, P + N, P + N]`` how much the tokens belong together, where a method reports it for later steps
            (CLIPtrase, CLIPer).
        objectness: ``[B, N]`` in 0..1, how likely a patch shows an object and not background (CLIP-DINOiser).
        kept: tensors ``[B, ...]`` by name that :meth:`ovseg.attention.LastBlockAttention.rescore` compares with words.
        carried: further tensors ``[B, ...]`` by name that a second pass of the attention starts from (ResCLIP).
    """

    tokens: Tensor
    grid: tuple[int, int]
    num_prefix: int = 0
    affinity: Tensor | None = None
    objectness: Tensor | None = None
    kept: dict[str, Tensor] | None = None
    carried: dict[str, Tensor] | None = None

    @property
    def patches(self) -> Tensor:
        """``[B, h * w, C]``: the tokens without their prefix."""
        return self.tokens[:, self.num_prefix :]

    def as_image(self) -> Tensor:
        """``[B, C, h, w]``: the patch tokens laid out on their grid."""
        return self.patches.transpose(1, 2).unflatten(2, self.grid)


class Block(Protocol):
    """A block in pieces: what an attention may use of it (:class:`ovseg.backbones.towers.TransformerBlock`)."""

    num_heads: int
    scale: float

    def __call__(self, x: Tensor, grid: tuple[int, int] | None = None) -> Tensor: ...

    def norm1(self, x: Tensor) -> Tensor: ...

    def qkv(self, y: Tensor, grid: tuple[int, int] | None = None) -> tuple[Tensor, Tensor, Tensor]: ...

    def qkv_unrotated(self, y: Tensor) -> tuple[Tensor, Tensor, Tensor]: ...

    def value(self, y: Tensor) -> Tensor: ...

    def split_heads(self, t: Tensor) -> Tensor: ...

    def unscaled_out(self, mixed: Tensor) -> Tensor: ...

    def out(self, mixed: Tensor) -> Tensor: ...

    def norm2(self, x: Tensor) -> Tensor: ...

    def ffn(self, x: Tensor) -> Tensor: ...


class Tower(Protocol):
    """An encoder in pieces: what an attention may use of it (:class:`ovseg.backbones.towers.VisionTower`)."""

    blocks: Sequence[Block]
    num_prefix: int
    patch_size: int
    width: int
    embed_dim: int
    native_grid: tuple[int, int]

    @property
    def final_norm(self) -> nn.Module: ...

    def grid_of(self, height: int, width: int) -> tuple[int, int]: ...

    def embed(self, images: Tensor, pos_embed: str = "size") -> Tensor: ...

    def post_norm(self, x: Tensor) -> Tensor: ...

    def project(self, x: Tensor) -> Tensor: ...


@dataclass
class AttentionContext:
    """Everything a last-block attention may look at.

    Attributes:
        x: ``[B, P + N, d]`` tokens that enter the last block.
        grid: ``(h, w)`` with ``h * w = N``.
        tower: the vision tower; ``tower.blocks[-1]`` is the block to be replaced.
        inputs: ``{i: tokens [B, P + N, d] that entered block i}`` for the blocks the attention asked for through
            ``needs_inputs`` (0-based).
        guide: features of the guide for the same windows, or ``None``.
        regions: ``[B, H, W]`` int region ids of the windows in pixels, or ``None``.
        images: ``[B, 3, H, W]`` the normalised windows themselves.
        groups: ``[B]`` index of the image that each window comes from.
        layout: how the windows lie in their photo, where the batch is all windows of one photo.
    """

    x: Tensor
    grid: tuple[int, int]
    tower: Tower
    inputs: dict[int, Tensor] = field(default_factory=dict)
    guide: FeatureMap | None = None
    regions: Tensor | None = None
    images: Tensor | None = None
    groups: Tensor | None = None
    layout: WindowLayout | None = None

    @property
    def num_prefix(self) -> int:
        return self.tower.num_prefix


DEVICE_VARIABLE = "OVSEG_DEVICE"


def resolve_device(device: str | torch.device | None) -> torch.device:
    """``None`` or ``'auto'`` become what ``OVSEG_DEVICE`` names; without it CUDA where there is a GPU, else the CPU.

    Raises:
        ValueError: for a device that this machine does not have, listing those it has.
    """
    if device in (None, "auto"):
        device = os.environ.get(DEVICE_VARIABLE, "").strip() or ("cuda" if torch.cuda.is_available() else "cpu")
    available = available_devices()
    try:
        wanted = torch.device(device)
    except (RuntimeError, TypeError):
        wanted = None
    names = list(available)
    if wanted is None or not (
        str(wanted) in names or (wanted.index is None and any(_kind(n) == str(wanted) for n in names))
    ):
        there_are = ", ".join(f"{name} ({about})" if about else name for name, about in available.items())
        raise ValueError(f"there is no device {str(device)!r} on this machine; there are: {there_are}{_why_no_cuda()}")
    return wanted


def available_devices() -> dict[str, str]:
    """Devices of this machine as ``{'cpu': '', 'cuda:0': 'name of the GPU'}``."""
    found = {"cpu": ""}
    found |= {f"cuda:{i}": torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())}
    for kind in ("mps", "xpu"):
        backend = getattr(torch, kind, None)
        if backend is not None and backend.is_available():
            found |= {f"{kind}:{i}": "" for i in range(backend.device_count())}
    return found


def _kind(name: str) -> str:
    return name.partition(":")[0]


def _why_no_cuda() -> str:
    if torch.cuda.is_available():
        return ""
    if torch.version.cuda is None:
        return ". This PyTorch was built without CUDA"
    return f". PyTorch (built for CUDA {torch.version.cuda}) finds no GPU or no driver"
