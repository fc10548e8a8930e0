"""DenseCLIP: a finetuned CLIP whose scores of learned prompts guide a Semantic FPN; for a closed set of classes.

Rao et al., "DenseCLIP: Language-Guided Dense Prediction with Context-Aware Prompting", CVPR 2022.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from mmengine.registry import DefaultScope
from open_clip.model import CLIP
from torch import Tensor, nn

from ovseg.backbones.towers import OpenClipTower
from ovseg.decoders.base import Decoder, Encoder, Features, Prediction
from ovseg.registry import DECODERS
from ovseg.text.causal import shortened

TEMPERATURE = 0.07
"""Of the scores in the auxiliary loss (section 3.4)."""


class LearnedPrompts(nn.Module):
    """Class names behind learned vectors in place of a template (Zhou et al., CoOp, IJCV 2022; section 3.3).

    The vectors stand between start token and name; the tower sees all of it without a causal mask.

    Args:
        width: of the text tower.
        count: learned vectors, shared by all classes.
        name_tokens: of a name with start and end; what is longer is cut.
    """

    def __init__(self, width: int, count: int = 8, name_tokens: int = 5) -> None:
        super().__init__()
        self.contexts = nn.Parameter(0.02 * torch.randn(count, width))
        self.name_tokens = int(name_tokens)

    def tokens(self, tokenizer, names: Sequence[str]) -> Tensor:
        """int64 ``[Q, name_tokens]``, ended by the end token."""
        return shortened(torch.stack([tokenizer([name])[0] for name in names]), self.name_tokens)

    def forward(self, clip: CLIP, tokens: Tensor) -> Tensor:
        """Embeddings ``[Q, D]`` of names, not normalised.

        Args:
            clip: its text tower, whose weights stay as they are.
            tokens: from :meth:`tokens`.
        """
        tokens = tokens.to(self.contexts.device)
        names = clip.token_embedding(tokens)
        contexts = self.contexts.expand(len(names), -1, -1)
        x = torch.cat([names[:, :1], contexts, names[:, 1:]], dim=1)
        x = clip.ln_final(clip.transformer(x + clip.positional_embedding[: x.shape[1]]))
        ends = tokens.argmax(dim=1) + self.contexts.shape[0]
        return x[torch.arange(len(x)), ends] @ clip.text_projection


class ContextDecoder(nn.Module):
    """What the photo adds to each word: words attend to each other and to it (section 3.3, post-model prompting).

    Args:
        dim: of words and patches.
        width, heads, layers, dropout: of the transformer decoder.
    """

    def __init__(self, dim: int, width: int = 256, heads: int = 4, layers: int = 3, dropout: float = 0.1) -> None:
        super().__init__()
        self.photo_in = nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, width), nn.LayerNorm(width))
        self.words_in = nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, width))
        layer = nn.TransformerDecoderLayer(width, heads, 4 * width, dropout, "gelu", batch_first=True, norm_first=True)
        self.layers = nn.TransformerDecoder(layer, layers)
        self.out = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, dim))

    def forward(self, words: Tensor, photo: Tensor) -> Tensor:
        """``[B, Q, D]`` from words ``[B, Q, D]`` and the photo's ``[B, 1 + N, D]``."""
        return self.out(self.layers(self.words_in(words), self.photo_in(photo)))


@DECODERS.register_module()
class DenseClipDecoder(Decoder):
    """Four maps of CLIP's ViT, the third beside the scores of the words, through a feature pyramid to class maps.

    Scores are cosines of patches with ``t + gamma * ContextDecoder(t, photo)``. FPN and head are mmsegmentation's.

    Args:
        tower: CLIP's image tower, open_clip's own ViT.
        classes: number of classes, which is fixed: their maps are channels.
        text_width: of CLIP's text tower; :class:`ovseg.segmentors.DenseClipSegmentor` gives it.
        weights, checkpoint: see :class:`ovseg.decoders.Decoder`.
        taps: after how many blocks the four maps are taken; ``None``: after each quarter.
        contexts, name_tokens: see :class:`LearnedPrompts`.
        channels: of the pyramid.
        context: further arguments of :class:`ContextDecoder`.

    Raises:
        ValueError: for taps that are not four numbers of blocks.
    """

    def __init__(
        self,
        tower: OpenClipTower,
        text_width: int,
        classes: int,
        weights: str | None = None,
        checkpoint: str | Path | None = None,
        taps: Sequence[int] | None = None,
        contexts: int = 8,
        name_tokens: int = 5,
        channels: int = 256,
        context: dict | None = None,
    ) -> None:
        super().__init__(tower)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # mmsegmentation tells of detectors that are not wanted here
            from mmseg.models.decode_heads import FPNHead
            from mmseg.models.necks import FPN, Feature2Pyramid
        blocks, width = len(tower.blocks), tower.width
        self.taps = tuple(taps or (blocks * (i + 1) // 4 for i in range(4)))
        if len(self.taps) != 4 or sorted(set(self.taps)) != list(self.taps) or not 0 < self.taps[0] <= self.taps[-1]:
            raise ValueError(f"taps are {self.taps}: give four numbers of blocks, ascending")
        if self.taps[-1] != blocks:
            raise ValueError(f"taps are {self.taps}: the last must be CLIP's number of blocks, {blocks}")
        norm = dict(type="BN")
        self.classes = int(classes)
        self.prompts = LearnedPrompts(text_width, contexts, name_tokens)
        self.context_decoder = ContextDecoder(tower.embed_dim, **(context or {}))
        self.gamma = nn.Parameter(torch.full((tower.embed_dim,), 1e-4))
        with DefaultScope.overwrite_default_scope(
            "mmseg"
        ):  # its parts are looked up by name, where a runner says ovseg
            self.pyramid = Feature2Pyramid(width, rescales=[4, 2, 1, 0.5], norm_cfg=norm)
            self.neck = FPN([width, width, width + self.classes, width], channels, num_outs=4)
            self.head = FPNHead(
                in_channels=[channels] * 4,
                in_index=[0, 1, 2, 3],
                feature_strides=[4, 8, 16, 32],
                channels=channels // 2,
                num_classes=self.classes,
                norm_cfg=norm,
                align_corners=False,
            )
        self.load(weights, checkpoint)

    def features(self, frames: Tensor, backbone: Encoder) -> Features:
        """``maps`` ``[B, 4, d, h, w]`` of CLIP's blocks, ``photo`` ``[B, 1 + N, D]`` class token and patches.

        Args:
            frames: ``[B, 3, H, W]`` normalised; H and W multiples of twice the patch size.
            backbone: CLIP.
        """
        tower = backbone.tower
        context = backbone(frames, self.taps[:3], len(tower.blocks))
        prefix = context.num_prefix
        tokens = [*(context.inputs[i] for i in self.taps[:3]), context.x]
        maps = [t[:, prefix:].transpose(1, 2).unflatten(2, context.grid) for t in tokens]
        return {"maps": torch.stack(maps, dim=1), "photo": tower.project(tower.post_norm(context.x))}

    def forward(self, features: Features, text: Tensor) -> Prediction:
        """As in the base class; ``extras['auxiliary_scores']`` are the scores over their temperature.

        Raises:
            ValueError: for another number of words than classes.
        """
        if len(text) != self.classes:
            raise ValueError(f"{len(text)} words for a model of {self.classes} classes, whose set is closed")
        maps, photo = features["maps"], features["photo"]
        words = text.expand(len(photo), -1, -1)
        words = words + self.gamma * self.context_decoder(words, photo)
        patches = F.normalize(photo[:, 1:], dim=-1)
        scores = F.normalize(words, dim=-1) @ patches.transpose(1, 2)
        scores = scores.unflatten(2, tuple(maps.shape[-2:]))
        levels = list(self.pyramid(tuple(maps.unbind(dim=1))))
        levels[2] = torch.cat([levels[2], scores], dim=1)
        return Prediction(self.head(self.neck(levels)), extras={"auxiliary_scores": scores / TEMPERATURE})
