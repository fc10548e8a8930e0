"""The best few classes of every pixel, while scores stream by."""

from __future__ import annotations

import torch
from torch import Tensor


class RunningTop:
    """The best k classes of every pixel among the blocks seen so far.

    Args:
        k: number of classes kept.
        size: ``(H, W)`` in pixels.
        num_classes: number of classes.
        device: where they are kept.

    Attributes:
        classes: ``[k, H, W]`` int32, best first; -1 where fewer have been seen.
        values: ``[k, H, W]`` float32; -inf there.
    """

    def __init__(self, k: int, size: tuple[int, int], num_classes: int, device: torch.device) -> None:
        self.classes = torch.full((k, *size), -1, dtype=torch.int32, device=device)
        self.values = torch.full((k, *size), -torch.inf, device=device)
        self.num_classes = num_classes

    def update(self, rows: slice, columns: slice, block: Tensor, classes: Tensor) -> None:
        """Look at more scores.

        Args:
            rows, columns: of the pixels.
            block: ``[q, h, w]`` scores.
            classes: ``[q]`` int64 their classes; a class may occur again, here and in other blocks: its largest counts.
        """
        present, place = classes.unique(return_inverse=True)
        best = block.new_full((len(present), *block.shape[1:]), -torch.inf)
        best.scatter_reduce_(0, place[:, None, None].expand_as(block), block, "amax")
        old, old_values = self.classes[:, rows, columns], self.values[:, rows, columns]
        index = torch.full((self.num_classes + 1,), -1, dtype=torch.long, device=block.device)  # the last is for -1
        index[present] = torch.arange(len(present), device=block.device)
        index = index[old.long()]
        again = index >= 0
        lowest = torch.full_like(old_values, -torch.inf)
        best.scatter_reduce_(0, index.clamp(min=0), torch.where(again, old_values, lowest), "amax")
        values = torch.cat([torch.where(again, lowest, old_values), best])
        candidates = torch.cat([old, present.int()[:, None, None].expand(-1, *block.shape[1:])])
        self.values[:, rows, columns], where = values.topk(len(self.values), dim=0)
        self.classes[:, rows, columns] = candidates.gather(0, where)

    def led_by(self, labels: Tensor) -> Tensor:
        """:attr:`classes` with ``labels [H, W]``, an argmax of the same scores, in front.

        Where two classes are equal, or equal up to the rounding of another order of summation, the label leads.
        """
        classes = self.classes.clone()
        same = classes == labels
        # a label that rounding put beyond the list takes the last place in it
        position = torch.where(same.any(0), same.int().argmax(0), len(classes) - 1)[None]
        classes.scatter_(0, position, classes[:1].clone())
        classes[0] = labels
        return classes
