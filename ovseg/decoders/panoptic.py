"""From masks and their class probabilities to segments that share the photo out, and to instances that may overlap.

The rules of Mask2Former (Cheng et al., CVPR 2022, section 4.1), which FC-CLIP evaluates with. Masks are asked for in
tiles or one by one: nothing of [masks, H, W] is held.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ovseg.results.instances import Instance
from ovseg.scores import DecodedScoreMap

MASK = 0.5
"""Probability from which on a pixel belongs to a mask."""


@dataclass(frozen=True)
class Segment:
    """A part of a panoptic map.

    Attributes:
        id: its number in the map, from 1 on.
        category: index of its class.
        score: probability of its class; of stuff, that of the first mask that was merged into it.
        thing: whether it is one thing; otherwise all the photo's stuff of the class.
    """

    id: int
    category: int
    score: float
    thing: bool


def panoptic_segments(
    masks: DecodedScoreMap, probabilities: Tensor, things: Tensor, threshold: float = 0.0, overlap: float = 0.8
) -> tuple[Tensor, list[Segment]]:
    """Shares the photo out among the masks.

    Each pixel goes to the mask with the largest class probability times mask. A mask that loses more than
    ``1 - overlap`` of its pixels to others is dropped, and pixels outside of the mask that won them stay without a
    segment.

    Args:
        masks: of K masks, their probability at every pixel.
        probabilities: ``[K, C + 1]``, "no object" last.
        things: bool ``[C]``: the classes that are counted; masks of another class are merged.
        threshold: masks whose best class is not more probable are left out.
        overlap: see above.

    Returns:
        ids ``[H, W]`` int32, 0 without a segment; the segments by id.
    """
    scores, labels = probabilities.max(-1)
    kept = ((labels < len(things)) & (scores > threshold)).nonzero()[:, 0]
    winners = torch.zeros(masks.size, dtype=torch.long, device=probabilities.device)
    inside = torch.zeros(masks.size, dtype=torch.bool, device=probabilities.device)
    if not len(kept):
        return winners.int(), []
    area = torch.zeros(len(kept), dtype=torch.long, device=probabilities.device)
    for _, rows, columns, block in masks.blocks():
        block = block[kept]
        area += (block >= MASK).sum((1, 2))
        won = (block * scores[kept, None, None]).argmax(0)
        winners[rows, columns] = won
        inside[rows, columns] = block.gather(0, won[None])[0] >= MASK
    pixels = torch.bincount(winners.flatten(), minlength=len(kept)).tolist()
    good = torch.bincount(winners[inside], minlength=len(kept)).tolist()
    table = torch.zeros(len(kept), dtype=torch.int32)
    segments: list[Segment] = []
    merged: dict[int, int] = {}
    for index, (mask, whole) in enumerate(zip(kept.tolist(), area.tolist(), strict=True)):
        if not good[index] or pixels[index] / whole < overlap:
            continue
        category = int(labels[mask])
        thing = bool(things[category])
        if thing or category not in merged:
            segments.append(Segment(len(segments) + 1, category, float(scores[mask]), thing))
            if not thing:
                merged[category] = len(segments)
        table[index] = len(segments) if thing else merged[category]
    return torch.where(inside, table.to(winners.device)[winners], 0), segments


def instances(
    masks: DecodedScoreMap,
    probabilities: Tensor,
    names: Sequence[str],
    things: Tensor | None = None,
    most: int = 100,
) -> list[Instance]:
    """The best pairs of a mask and a class, best first; they may overlap.

    Their confidence is the class probability times the mean of the mask where it is above one half.

    Args:
        masks: of K masks, their probability at every pixel.
        probabilities: ``[K, C + 1]``, "no object" last.
        names: of the C classes.
        things: bool ``[C]``: classes of which instances are wanted; ``None``: all.
        most: pairs that are looked at; those of an empty mask or an unwanted class are left out of them.
    """
    classes = len(names)
    scores, pairs = probabilities[:, :classes].flatten().topk(min(most, len(probabilities) * classes))
    found = []
    for score, pair in zip(scores.tolist(), pairs.tolist(), strict=True):
        index, category = divmod(pair, classes)
        if things is not None and not things[category]:
            continue
        mask = masks.block(slice(index, index + 1))[0]
        inside = mask > MASK
        if inside.any():
            sure = score * float(mask[inside].mean())
            found.append(_instance(names[category], category, inside.cpu().numpy(), sure))
    return sorted(found, key=lambda instance: -instance.confidence)


def _instance(name: str, category: int, mask: np.ndarray, confidence: float) -> Instance:
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    y, x = int(rows[0]), int(columns[0])
    part = mask[y : rows[-1] + 1, x : columns[-1] + 1].copy()
    return Instance(name, category, (x, y, part.shape[1], part.shape[0]), part, confidence)
