"""Pretraining of nano-photo: WordNet's names, a teacher's classes at every cell, captions without masks."""

import collections
import functools
from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ovseg.nano.photo_sources import caption_vocabulary, training_captions
from ovseg.nano.pretrain import ClipPretrainer, encode_text, matching_loss, tokens
from ovseg.nano.teacher import Teacher
from ovseg.nano.wordnet import read_names
from ovseg.registry import MODELS

#: How often a class is called by its own name, by a hypernym's, by an ordinary word.
_LEVELS = (0.4, 0.25, 0.35)
#: Longer names are not used: the longest one decides what a step costs.
_MOST_TOKENS = 9
#: Classes and things of captions beside those of the batch whose words compete in a step.
_OTHER_CLASSES, _OTHER_THINGS = 260, 90
#: From this probability of the teacher's likeliest class on, a cell shows none of the words that only captions use.
_SURE = 0.6
#: Words that fewer captions than this name compete only where one does.
_FEW = 4


class Words:
    """All words of the training and what they name.

    Args:
        things: per thing that a caption may name, its words.

    Attributes:
        words: every word once.
        classes: float ``[1000, words]``, 1 where a word names a class.
        captions: bool ``[words]``, whether captions use a word.
        nameable: bool ``[1000]``, whether a caption that shows the class would name it.
    """

    def __init__(self, things: Sequence[tuple[str, ...]]) -> None:
        self.names, self.things = read_names(), list(things)
        short = functools.partial(filter, lambda name: len(tokens(name)) <= _MOST_TOKENS)
        self.levels = [[tuple(short(level)) for level in (n.own, n.wider, n.ordinary)] for n in self.names]
        each = [[word for level in levels for word in level] for levels in self.levels]
        self.words = list(dict.fromkeys(w for group in (*each, *self.things) for w in group))
        self.index = {word: i for i, word in enumerate(self.words)}
        self.classes = torch.zeros(len(self.names), len(self.words))
        for row, group in enumerate(each):
            self.classes[row, [self.index[w] for w in group]] = 1
        self.captions = torch.zeros(len(self.words), dtype=torch.bool)
        self.captions[[self.index[w] for group in self.things for w in group]] = True

        # Words that are written by hand for a class are the captions' own; WordNet's may mean another thing.
        self.nameable = torch.tensor([any(self.captions[self.index[w]] for w in n.ordinary) for n in self.names])

    def draw(self, rng: np.random.Generator, labels: Collection[int], said: Collection[str]) -> Tensor:
        """Words of a step: one at a random level for each class, one for each thing of the captions.

        Args:
            rng: source of randomness.
            labels: classes of the batch; others are drawn.
            said: words of the batch's captions; other things are drawn.

        Returns:
            Indices of words, ascending, int64 ``[n]``.
        """
        drawn = set()
        classes = sorted({*labels, *rng.choice(len(self.names), _OTHER_CLASSES, replace=False).tolist()})
        levels = rng.choice(3, len(classes), p=_LEVELS)
        for label, level in zip(classes, levels, strict=True):
            group = self.levels[label][level] or self.levels[label][0] or self.levels[label][1]
            drawn.add(self.index[group[rng.integers(len(group))]])
        others = set(rng.choice(len(self.things), min(_OTHER_THINGS, len(self.things)), replace=False).tolist())
        for i, group in enumerate(self.things):
            if i in others or not said.isdisjoint(group):
                drawn.add(self.index[group[rng.integers(len(group))]])
        return torch.tensor(sorted(drawn))


@MODELS.register_module()
class PhotoClipPretrainer(ClipPretrainer):
    """A CLIP over a frozen convolutional stem.

    1. *cells*: at every cell the teacher's classes (times what is known of the photo), by names that are drawn anew
       each step from all levels of WordNet; all names of a class share its probability;
    2. *slot, phrase, patch* of :class:`ClipPretrainer` on photos with captions, among the words that captions use;
    3. *token*: the class token against the names of photos of one class.

    The cells are read by the last block's value path, its q-q and its k-k attention, as in the base class.

    Args:
        clip: path of a model config with a stem.
        root: the folder that holds ``real_mini``, whose ``labels.tsv`` say what captions may name.
        teacher: state dict of the teacher, see :class:`ovseg.nano.teacher.Teacher`; its features become the stem.
        keep: share of the cells that is kept.
        dropout: of the stem's features.
        weights: of ``cells``, ``residual`` and ``token`` beside those of the base class.
        rare_from: step from which words that hardly any caption names compete only where one does; ``None``: never.
            Not from the first step on: such words are then told off by no caption at all.
        autocast, max_logit_scale: as in the base class.
    """

    def __init__(
        self,
        clip: str,
        root: str,
        teacher: str | None = None,
        keep: float = 0.4,
        dropout: float = 0.1,
        weights: dict | None = None,
        rare_from: int | None = None,
        autocast: bool = True,
        max_logit_scale: float = 60.0,
    ) -> None:
        defaults = {"cells": 1.0, "caption": 1.0, "slot": 0.5, "phrase": 0.1, "patch": 0.5, "token": 0.1}
        super().__init__(clip, keep, {**defaults, "residual": 0.25, **(weights or {})}, autocast, max_logit_scale, ())
        mini = Path(root) / "real_mini"
        words = Words(caption_vocabulary([mini / "coco_stuff", mini / "ade20k"]))
        self.vocabulary = words
        # What hardly any caption names would be told off by all of them and hardly ever praised: such words are learned
        # from the teacher, and compete only where a caption does name them.
        named = collections.Counter(group for photo in training_captions(Path(root)) for group in photo.words)
        self.competing = {
            least: torch.isin(
                torch.arange(len(words.words)),
                torch.tensor([words.index[w] for group, n in named.items() if n >= least for w in group]),
            )
            for least in (1, _FEW)
        }
        self.rare_from = rare_from
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))  # saved: a resumed training goes on
        patches = self.clip.visual.conv1
        patches.stem.load_state_dict(Teacher(teacher).patches.stem.state_dict())
        patches.stem.requires_grad_(False)
        self.dropout = dropout
        # In photographs grass is larger than who plays on it.
        self.size_power = 0.5
        self.scaled = False
        self.train()  # the stem is not to be in training mode, not even before the first step

    def train(self, mode: bool = True) -> "PhotoClipPretrainer":
        """As always, but the stem stays as it is."""
        super().train(mode)
        self.clip.visual.conv1.stem.eval()
        return self

    @torch.no_grad()
    def _scale_join(self, x: Tensor) -> None:
        """First step: the joining layer's weights for features of unit spread, ``x`` is ``[n, channels]``."""
        weight = self.clip.visual.conv1.join.weight
        spread = x.std(dim=0).clamp(min=0.05)
        weight.copy_(torch.randn_like(weight) / (spread * weight.shape[1] ** 0.5)[:, None, None])
        self.clip.visual.conv1.join.bias.copy_(-(weight[..., 0, 0] @ x.mean(dim=0)))

    @staticmethod
    def _enlargement(size: tuple[int, int]) -> Tensor:
        """What :meth:`StemPatches.combine` does to a coarse map of ``size`` as a matrix ``[4 h w, h w]``."""
        unit = torch.eye(size[0] * size[1]).unflatten(1, size)[None]
        return F.interpolate(unit, scale_factor=2, mode="bilinear", align_corners=False)[0].flatten(1).T

    def encode_features(self, fine: Tensor, coarse: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """As :meth:`encode_image` from the stem's features; which cells were kept ``[b, n]`` beside it."""
        join = self.clip.visual.conv1.join
        (rows, columns), b = fine.shape[-2:], len(fine)
        kept = torch.rand(b, rows * columns, device=fine.device).argsort(dim=1)[:, : round(rows * columns * self.keep)]
        near = fine.flatten(2).mT.gather(1, kept[..., None].expand(-1, -1, fine.shape[1]))
        # The enlarged coarse map at the kept cells only: a product with the rows of the (linear) enlargement.
        far = self._enlargement(coarse.shape[-2:])[kept] @ coarse.flatten(2).mT.float()
        x = torch.cat([near.float(), far], dim=2)
        if not self.scaled:
            self.scaled = True
            if not join.bias.any():
                self._scale_join(x.flatten(0, 1))
        x = x * F.dropout(x.new_ones(b, 1, x.shape[2]), self.dropout)
        x = F.linear(x, join.weight.flatten(1), join.bias)
        return *self.encode_patches(x + self._places(rows, columns)[kept], None, kept), kept

    def forward(
        self,
        fine: Tensor,
        coarse: Tensor,
        classes: Tensor,
        probability: Tensor,
        labels: list[list[int]],
        caption: list[list[list[str]]],
        mode: str = "loss",
    ) -> dict[str, Tensor]:
        """The training losses of a batch of :class:`ovseg.nano.photo_scenes.PhotoFeatures`.

        Args:
            fine, coarse: the stem's features, ``[b, c, h, w]`` and ``[b, C, h / 2, w / 2]``.
            classes, probability: the teacher's likeliest classes of each cell, ``[b, h * w, k]``.
            labels: per image, the classes of its labelled photos.
            caption: per image, per thing that is named, its words.
            mode: ``loss``, the only one.
        """
        if mode != "loss":
            raise ValueError(f"PhotoClipPretrainer only trains: mode must be 'loss', not {mode!r}")
        words = self.vocabulary
        said = {word for groups in caption for group in groups for word in group}
        drawn = words.draw(self._rng, {label for each in labels for label in each}, said)
        named = words.classes[:, drawn]
        with torch.autocast(fine.device.type, torch.bfloat16, enabled=self.autocast):
            token, value, residual, kept = self.encode_features(fine, coarse)
            prompt = self._prompt("{}")
            texts = encode_text(self.clip, [prompt.format(words.words[i]) for i in drawn.tolist()])
        texts = F.normalize(texts.float(), dim=-1)
        scale = self.clip.logit_scale.exp().clamp(max=self.max_logit_scale)
        w, losses = self.weights, {}

        target, sure = self._targets(classes, self._agreed(classes, probability, labels, caption), kept, named)
        losses["loss_cells"] = w["cells"] * self._cells(value, texts, target, sure, scale, drawn)
        part = slice(0, len(residual))
        if w["residual"]:
            loss = self._cells(residual, texts, target[part], sure[part], scale, drawn)
            losses["loss_residual"] = w["residual"] * loss

        single = [i for i, (has, said) in enumerate(zip(labels, caption, strict=True)) if len(has) == 1 and not said]
        if single:
            positive = named[[labels[i][0] for i in single]] > 0
            seen = positive.any(dim=1)
            scores = scale * F.normalize(token[single].float(), dim=-1) @ texts.T
            losses["loss_token"] = w["token"] * matching_loss(scores[seen], positive[seen])

        captioned = [i for i, said in enumerate(caption) if said]
        if captioned:
            for name, loss in self._captioned(captioned, labels, caption, value, texts, scale, drawn, named).items():
                losses[f"loss_{name}"] = w["caption"] * w[name] * loss
        losses["scale"] = scale.detach()
        self.steps += 1
        return losses

    def _agreed(
        self, classes: Tensor, probability: Tensor, labels: list[list[int]], caption: list[list[list[str]]]
    ) -> Tensor:
        """The teacher's probabilities where captions leave them: a caption names all that its words can name.

        Classes that have a word of the captions' vocabulary, but none of this photo's caption, keep a twentieth.

        Args:
            classes, probability, labels, caption: as of :meth:`forward`.

        Returns:
            ``[b, h * w, k]`` that sum to at most 1; a cell that loses its likely classes counts little afterwards.
        """
        words = self.vocabulary
        factor = torch.ones(len(caption), len(words.names))
        for row, said in enumerate(caption):
            if said:
                there = words.classes[:, [words.index[w] for group in said for w in group]].any(dim=1)
                there[labels[row]] = True
                factor[row, words.nameable & ~there] = 0.05
        factor = factor.to(classes.device)
        rows = torch.arange(len(caption), device=classes.device)[:, None, None]
        return probability.float() * factor[rows, classes.long()]

    def _targets(self, classes: Tensor, probability: Tensor, kept: Tensor, named: Tensor) -> tuple[Tensor, Tensor]:
        """Probabilities of the drawn words at the kept cells ``[b, n, words]``, and each cell's weight ``[b, n]``."""
        index = kept[..., None].expand(-1, -1, classes.shape[-1])
        classes, probability = classes.long().gather(1, index), probability.gather(1, index)
        dense = probability.new_zeros(*classes.shape[:2], len(named)).scatter_add_(2, classes, probability)
        with torch.autocast(dense.device.type, torch.bfloat16, enabled=self.autocast):
            target = dense @ named
        target, sure = target.float(), probability.amax(dim=2)
        # A cell whose likely classes have no word in this step counts little.
        known = (dense @ (named.sum(dim=1) > 0).float()) * sure
        return target / (target.sum(dim=2, keepdim=True) + 1e-6), known

    def _cells(
        self, patches: Tensor, texts: Tensor, target: Tensor, sure: Tensor, scale: Tensor, drawn: Tensor
    ) -> Tensor:
        scores = scale * F.normalize(patches.float(), dim=-1) @ texts.T
        words = self.vocabulary
        only_captions = words.captions[drawn] & (words.classes[:, drawn].sum(dim=0) == 0)
        scores = scores.masked_fill(only_captions & (sure < _SURE)[..., None], -1e4)
        loss = -(target * scores.log_softmax(dim=2)).sum(dim=2)
        return (loss * sure).sum() / sure.sum()

    def _captioned(
        self,
        which: list[int],
        labels: list[list[int]],
        caption: list[list[list[str]]],
        value: Tensor,
        texts: Tensor,
        scale: Tensor,
        drawn: Tensor,
        named: Tensor,
    ) -> dict[str, Tensor]:
        """The terms of the base class on images with captions, among the words of captions and of pasted photos."""
        words = self.vocabulary
        at = torch.full((len(words.words),), -1)
        at[drawn] = torch.arange(len(drawn))
        positive = torch.zeros(len(which), len(drawn), dtype=torch.bool)
        rare_apart = self.rare_from is not None and self.steps >= self.rare_from
        used = self.competing[_FEW if rare_apart else 1][drawn].clone()
        for row, i in enumerate(which):
            columns = at[[words.index[w] for group in caption[i] for w in group]]
            positive[row, columns[columns >= 0]] = True
            for label in labels[i]:
                positive[row] |= named[label] > 0
        used |= positive.any(dim=0)
        positive = positive[:, used].to(value.device)
        weight = torch.ones(int(used.sum()), device=value.device)
        return self._dense(value[which], texts[used], positive, scale, weight)
