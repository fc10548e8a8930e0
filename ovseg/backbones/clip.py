"""CLIP as a backbone: windows in, patch embeddings in the text space out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from ovseg import projections
from ovseg.backbones.precision import MixedPrecision, Settled
from ovseg.backbones.towers import build_tower, check_pos_embed
from ovseg.registry import BACKBONES, construct
from ovseg.structures import AttentionContext, FeatureMap
from ovseg.weights import load_clip

COMPILE_MODES = (None, "default", "reduce-overhead", "max-autotune")


@BACKBONES.register_module()
class ClipBackbone(MixedPrecision):
    """Any ViT-based open_clip model up to its last block, which a registered attention runs, and its projection.

    Args:
        weights: name in the weights catalogue, e.g. ``'openai/ViT-B-16'`` or ``'nano'``.
        checkpoint: file to read instead of the catalogue's.
        pos_embed: how positions are resized to a window's grid: ``'size'``, ``'scale'`` or ``'bilinear'``
            (see :meth:`ovseg.backbones.towers.VisionTower.positions`).
        precision: ``'fp32'``; ``'bf16'`` or ``'fp16'`` run all blocks but the last under autocast, ``'int8'`` all but
            the first and the last with 8-bit products; ``'auto'`` chooses, see :mod:`ovseg.backbones.precision`. The
            last block, the projection and everything after stay in fp32: they are a twelfth of the work and decide the
            labels (with int8 the last block's linear layers are in bf16 where that is faster). ``None``: fp32 unless
            an entry point (:class:`ovseg.Segmenter`, the tools) chooses.
        compile: mode for :func:`torch.compile` of all blocks but the last (``'default'``; ``'reduce-overhead'`` replays
            CUDA graphs); ``None``: not compiled. Batches are filled up to a power of two, so that there are few shapes
            to compile for. Pays off on a GPU; on a CPU packed weights are as fast without the wait.
        split_projections: query, key and value projections of both towers become parameters of their own
            (:func:`ovseg.projections.split_projections`), for trainings of some of them; inference is slower with it.
        low_rank: LoRA on the image tower's projections, e.g. ``dict(rank=8)`` (:func:`ovseg.projections.add_low_rank`).

    Raises:
        ValueError: unknown ``precision``, ``pos_embed`` or ``compile``, ``low_rank`` without a rank.
    """

    weights_argument: str | dict[str, str] = "weights"

    def __init__(
        self,
        weights: str = "nano",
        checkpoint: str | Path | None = None,
        pos_embed: str = "size",
        precision: str | None = None,
        compile: str | None = None,
        split_projections: bool = False,
        low_rank: dict | None = None,
    ) -> None:
        super().__init__(precision)
        if compile not in COMPILE_MODES:
            raise ValueError(f"compile is {compile!r}; choose one of {COMPILE_MODES}")
        check_pos_embed(pos_embed)
        loaded = load_clip(weights, checkpoint=checkpoint)
        self.weights, self.sha256 = weights, loaded.sha256
        self.clip = loaded.model.eval().requires_grad_(False)
        if split_projections:
            projections.split_projections(self.clip)
        if low_rank is not None:
            construct(projections.add_low_rank, dict(low_rank, model=self.clip.visual), "low_rank")
        self.tokenizer, self.words = loaded.tokenizer, loaded.words
        self.pos_embed = pos_embed
        self.tower = build_tower(self.clip.visual)
        self.compile_mode = compile
        # of the class's function, so that a deep copy runs its own weights
        self._encode = ClipBackbone._run
        if compile is not None:
            self._encode = torch.compile(ClipBackbone._run, mode=compile, dynamic=False)
        # 0..255 scale, as the official pipelines normalise
        self.register_buffer("mean", torch.tensor(loaded.mean).float().view(3, 1, 1) * 255, persistent=False)
        self.register_buffer("std", torch.tensor(loaded.std).float().view(3, 1, 1) * 255, persistent=False)

    @property
    def patch_size(self) -> int:
        return self.tower.patch_size

    def normalise(self, image: Tensor) -> Tensor:
        """uint8 RGB ``[3, H, W]`` to float32, CLIP's mean and standard deviation."""
        return (image.to(self.mean.device).float() - self.mean) / self.std

    @property
    def settled(self) -> Settled:
        """As in the base class.

        Raises:
            ValueError: for int8 together with ``compile``, which would trace past it.
        """
        settled = super().settled
        if settled.int8 and self.compile_mode is not None:
            raise ValueError(f"precision is 'int8' and compile {self.compile_mode!r}: int8 is not compiled; drop one")
        return settled

    def forward(self, images: Tensor, record: Sequence[int] = (), depth: int | None = None) -> AttentionContext:
        """Windows up to the last block: what an attention starts from (guide, regions and groups are not filled in).

        Args:
            images: ``[B, 3, H, W]`` normalised windows.
            record: 0-based indices of the blocks whose input tokens the attention wants
                (:meth:`ovseg.attention.LastBlockAttention.needs_inputs_of`).
            depth: number of blocks that run; ``None``: all but the last.
        """
        count, batch = images.shape[0], images  # a size, not len(): that would fix the batch of an exported graph
        if self.compile_mode is not None:
            batch = F.pad(images, (0, 0, 0, 0, 0, 0, 0, (1 << (count - 1).bit_length()) - count))
        x, inputs = self._encode(self, batch, tuple(record), self.settled, depth)
        return AttentionContext(
            x=x[:count].float(),
            grid=self.tower.grid_of(*images.shape[-2:]),
            tower=self.tower,
            inputs={i: t[:count].float() for i, t in inputs.items()},
            images=images,
        )

    def _run(
        self, images: Tensor, record: tuple[int, ...], settled: Settled, depth: int | None = None
    ) -> tuple[Tensor, dict[int, Tensor]]:
        """Patch embedding and the blocks; the inputs of the blocks ``record`` beside it."""
        x = self.tower.embed(images, self.pos_embed)  # not under autocast: all blocks add to it, so it stays fp32
        with settled.autocast(images.device.type):
            return self.tower.run(x, self.tower.grid_of(*images.shape[-2:]), record, settled, depth)

    def project(self, features: FeatureMap, post_norm: bool = True) -> FeatureMap:
        """Patch tokens into the text space: ``[B, N, D]``, not normalised; prefix tokens are dropped."""
        x = features.patches
        x = self.tower.project(self.tower.post_norm(x) if post_norm else x)
        return replace(features, tokens=x, num_prefix=0)
