"""Which words an iteration compares."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def choose_words(labels: Tensor, count: int, wanted: int, ignore_index: int) -> tuple[list[int], Tensor]:
    """The words that label maps show, filled up with others; and the maps with indices into these.

    Which others is a function of the maps alone: a training that is resumed chooses as one that was not stopped.

    Args:
        labels: int64 ``[B, H, W]``, classes ``0..count - 1`` or ``ignore_index``.
        count: number of words there are.
        wanted: number of words; more where the maps show more.
        ignore_index: label of pixels that have no class.

    Returns:
        indices of the words, ascending, and int64 ``[B, H, W]``.

    Raises:
        ValueError: for a label that is neither a word nor ignored.
    """
    shown = labels.unique()
    shown = shown[shown != ignore_index]
    if len(shown) and not 0 <= int(shown[0]) <= int(shown[-1]) < count:
        raise ValueError(f"labels from {int(shown[0])} to {int(shown[-1])} for {count} words")
    places = torch.arange(1, labels.numel() + 1, device=labels.device)
    generator = torch.Generator().manual_seed(int((labels.flatten() * places).sum()) % (1 << 31))
    order = torch.randperm(count, generator=generator)
    others = order[~torch.isin(order, shown.cpu())][: max(0, wanted - len(shown))]
    words = torch.cat([shown.cpu(), others]).sort().values.tolist()
    return words, renumbered(labels, words, count, ignore_index)


def renumbered(labels: Tensor, words: Sequence[int], count: int, ignore_index: int) -> Tensor:
    """Label maps with the places of their classes among ``words``; others become ``ignore_index``.

    Args:
        labels: int64 ``[B, H, W]``, classes ``0..count - 1`` or ``ignore_index``.
        words: classes, each once.
        count: number of classes there are.
        ignore_index: label of pixels that have no class.
    """
    index = torch.full((max(count, ignore_index) + 1,), ignore_index, dtype=torch.long)
    index[torch.as_tensor(words, dtype=torch.long)] = torch.arange(len(words))
    index[ignore_index] = ignore_index
    return index.to(labels.device)[labels]


@torch.no_grad()
def pseudo_labelled(labels: Tensor, maps: Tensor, unseen: Sequence[int], ignore_index: int) -> Tensor:
    """Label maps whose pixels without a seen class have the likeliest of the unseen ones (transductive zero-shot).

    Args:
        labels: int64 ``[B, H, W]``; classes in ``unseen`` are taken for unknown.
        maps: ``[B, Q, h, w]`` logits of all classes, resized (bilinear) to the labels.
        unseen: classes whose labels are not known.
        ignore_index: label of pixels that have no class.
    """
    unseen = torch.as_tensor(unseen, dtype=torch.long, device=labels.device)
    unknown = (labels == ignore_index) | torch.isin(labels, unseen)
    guessed = F.interpolate(maps[:, unseen], size=labels.shape[1:], mode="bilinear", align_corners=False)
    return torch.where(unknown, unseen[guessed.argmax(dim=1)], labels)
