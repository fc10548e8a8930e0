"""From scores per query to one label per pixel."""

from __future__ import annotations

import copy

import torch
from torch import Tensor

from ovseg import ops
from ovseg.heads.ranking import RunningTop
from ovseg.registry import HEADS
from ovseg.scores import AnyScoreMap, ScoreMap, every


@HEADS.register_module()
class MaxQueryHead:
    """Temperature softmax over all queries, maximum over a class's queries, threshold, argmax.

    This is the post-processing that SCLIP, NACLIP, ProxyCLIP, Trident and CorrCLIP share. The maximum is taken of the
    softmaxed values (not a sum, not the logits' softmax per class). Because the softmax is monotonic, labels need only
    the largest logit; its denominator is computed only where a threshold or the confidence asks for it, and the whole
    is streamed block by block.

    Args:
        logit_scale: factor of the cosines before the softmax (40 in NACLIP, ProxyCLIP, Trident, CorrCLIP).
        threshold: pixels whose largest class probability is below it become ``background``.
        background: class that takes the pixels below the threshold.
        area_threshold: SCLIP and ITACLIP on VOC21: a foreground class that covers at most this share of all foreground
            pixels of the argmax map loses its probability everywhere. 0: off.
        peak_threshold: RADSeg's prompt denoising: a class whose probability reaches this nowhere in the photo loses it
            everywhere; where none is left, pixels go to class 0. Needs ``softmax=False``. 0: off.
        within_reach: the threshold is at most the photo's largest class probability: something of it is always named
            (SegCLIP, after GroupViT).
        softmax: ``False`` when the scores are probabilities already (MaskCLIP, CLIP-DINOiser).

    Raises:
        ValueError: for values out of range.
    """

    def __init__(
        self,
        logit_scale: float = 40.0,
        threshold: float = 0.0,
        background: int | None = 0,
        area_threshold: float = 0.0,
        softmax: bool = True,
        peak_threshold: float = 0.0,
        within_reach: bool = False,
    ) -> None:
        if logit_scale <= 0:
            raise ValueError(f"logit_scale is {logit_scale}; it must be positive")
        shares = {"threshold": threshold, "area_threshold": area_threshold, "peak_threshold": peak_threshold}
        for name, value in shares.items():
            if not 0 <= value <= 1:
                raise ValueError(f"{name} is {value}; it must lie between 0 and 1")
        if (threshold or area_threshold) and background is None:
            raise ValueError("a threshold needs a background class to give the pixels to; set background")
        self.logit_scale, self.threshold, self.background = float(logit_scale), float(threshold), background
        if peak_threshold and softmax:
            raise ValueError("peak_threshold is about scores that are probabilities already; set softmax=False")
        self.area_threshold, self.softmax = float(area_threshold), softmax
        self.peak_threshold, self.within_reach = float(peak_threshold), within_reach

    @property
    def active_background(self) -> int | None:
        """The background class, or ``None`` where thresholds are off and it is a class like any other."""
        return self.background if self.threshold or self.area_threshold else None

    def __call__(self, scores: AnyScoreMap, query_to_class: Tensor, num_classes: int) -> Tensor:
        """Labels ``[H, W]`` int32.

        Args:
            scores: per-query scores.
            query_to_class: ``[Q]`` class of every query.
            num_classes: number of classes.
        """
        fusible = not self.threshold or (self.softmax and self.threshold < 1 and not self.within_reach)
        if isinstance(scores, ScoreMap) and fusible:
            return self._fused(scores, query_to_class, num_classes)
        if self.threshold:
            return self.labels_and_confidence(scores, query_to_class, num_classes)[0]
        return self._best_kept(scores, query_to_class, num_classes, need_sum=False).labels

    def labels_and_confidence(
        self, scores: AnyScoreMap, query_to_class: Tensor, num_classes: int, threshold: bool = True
    ) -> tuple[Tensor, Tensor]:
        """Labels int32 and the largest class probability float32, both ``[H, W]``.

        Args:
            threshold: apply ``self.threshold``; ``False`` gives the plain argmax.
        """
        if not threshold and self.peak_threshold:
            plain = copy.copy(self)
            plain.peak_threshold = 0.0
            return plain.labels_and_confidence(scores, query_to_class, num_classes, threshold=False)
        best = self._best_kept(scores, query_to_class, num_classes, need_sum=self.softmax)
        confidence = best.confidence(self.logit_scale) if self.softmax else best.logits
        labels = best.labels
        if threshold and self.threshold:
            limit = min(self.threshold, float(confidence.max())) if self.within_reach else self.threshold
            labels = torch.where(confidence < limit, labels.new_tensor(self.background), labels)
        return labels, confidence

    def top(self, scores: AnyScoreMap, query_to_class: Tensor, num_classes: int, k: int) -> tuple[Tensor, Tensor]:
        """The best k classes of every pixel, before any threshold: int32 and float32 probabilities ``[k, H, W]``.

        Best first; streamed, so that memory grows with k, not with the classes.
        """
        device = query_to_class.device
        best = RunningTop(k, scores.size, num_classes, device)
        sums = torch.full(scores.size, -torch.inf, device=device)
        for queries, rows, columns, block in scores.blocks():
            best.update(rows, columns, block, query_to_class[queries])
            if self.softmax:
                total = (block * self.logit_scale).logsumexp(dim=0)
                sums[rows, columns] = torch.logaddexp(sums[rows, columns], total)
        plain = copy.copy(self)
        plain.threshold = plain.area_threshold = plain.peak_threshold = 0.0
        classes = best.led_by(plain(scores, query_to_class, num_classes))
        return classes, (best.values * self.logit_scale - sums).exp() if self.softmax else best.values

    def probabilities(
        self,
        scores: AnyScoreMap,
        query_to_class: Tensor,
        num_classes: int,
        rows: slice = slice(None),
        columns: slice = slice(None),
    ) -> Tensor:
        """Class probabilities ``[C, h, w]`` of a block of pixels, for inspection; with ``area_threshold`` the small
        classes are zero, and the values are not renormalised (as in SCLIP's code)."""
        values = scores.block(rows=rows, columns=columns)
        if self.softmax:
            values = (values * self.logit_scale).softmax(dim=0)
        index = query_to_class.to(values.device)
        merged = values.new_zeros(num_classes, *values.shape[1:])
        merged.scatter_reduce_(0, index[:, None, None].expand_as(values), values, "amax")
        labels = self._best(scores, query_to_class, need_sum=False).labels if self.area_threshold else None
        dropped = self._dropped(scores, query_to_class, num_classes, labels)
        if dropped is not None:
            merged[dropped] = 0
        return merged

    def sampled(self, scores: AnyScoreMap, query_to_class: Tensor, classes: Tensor, step: int) -> Tensor:
        """Probabilities ``[K, h, w]`` of some classes at every ``step``-th pixel, before any threshold.

        Args:
            scores: per-query scores.
            query_to_class: ``[Q]`` class of every query.
            classes: ``[K]`` int64, which.
            step: distance in pixels.
        """
        size = tuple(-(-n // step) for n in scores.size)
        best = torch.full((len(classes), *size), -torch.inf, device=query_to_class.device)
        sums = torch.full(size, -torch.inf, device=query_to_class.device)
        for queries, rows, columns, block in every(scores, step):
            for place, wanted in enumerate(query_to_class[queries] == c for c in classes):
                if wanted.any():
                    best[place, rows, columns] = torch.maximum(best[place, rows, columns], block[wanted].amax(0))
            if self.softmax:
                total = (block * self.logit_scale).logsumexp(dim=0)
                sums[rows, columns] = torch.logaddexp(sums[rows, columns], total)
        return (best * self.logit_scale - sums).exp() if self.softmax else best

    def describe(self) -> dict[str, object]:
        """What travels with a result."""
        return {
            "logit_scale": self.logit_scale,
            "threshold": self.threshold,
            "background": self.background,
            "area_threshold": self.area_threshold,
            **({"peak_threshold": self.peak_threshold} if self.peak_threshold else {}),
            **({"within_reach": True} if self.within_reach else {}),
        }

    def _fused(self, scores: ScoreMap, query_to_class: Tensor, num_classes: int) -> Tensor:
        """Labels by the fused operator, which prunes classes that cannot win before it interpolates anything."""

        def argmax(threshold: float, allowed: Tensor | None = None) -> Tensor:
            return ops.separable_argmax(
                scores.cells,
                scores.rows,
                scores.columns,
                query_to_class,
                num_classes,
                self.logit_scale if self.softmax else 1.0,
                threshold,
                self.background if threshold else None,
                allowed=allowed,
            )

        plain = argmax(0.0) if self.area_threshold else None
        dropped = self._dropped(scores, query_to_class, num_classes, plain)
        if dropped is None:
            return argmax(self.threshold)
        if dropped[query_to_class].all():
            return torch.zeros(scores.size, dtype=torch.int32, device=query_to_class.device)
        return argmax(self.threshold, ~dropped if dropped.any() else None)

    def _dropped(
        self, scores: AnyScoreMap, query_to_class: Tensor, num_classes: int, labels: Tensor | None
    ) -> Tensor | None:
        """``[C]`` bool: classes that may win nowhere; ``None``: no rule is on.

        Args:
            labels: without any rule, ``[H, W]``; the area threshold needs them.
        """
        dropped = self._small_classes(labels, num_classes) if self.area_threshold else None
        if self.peak_threshold:
            low = self._peaks(scores, query_to_class, num_classes) < self.peak_threshold
            dropped = low if dropped is None else dropped | low
        return dropped

    def _peaks(self, scores: AnyScoreMap, query_to_class: Tensor, num_classes: int) -> Tensor:
        """``[C]`` largest score of every class over the photo; less than the threshold where it is not reached."""
        peaks = torch.full((num_classes,), -torch.inf, device=query_to_class.device)
        if isinstance(scores, ScoreMap):  # weights sum to 1: no pixel is above the largest cell
            reach = scores.cells.amax((1, 2)) >= self.peak_threshold
            rows, index = ScoreMap(scores.cells[reach], scores.rows, scores.columns), query_to_class[reach]
        else:
            rows, index = scores, query_to_class
        for queries, _, _, block in rows.blocks() if len(index) else ():
            peaks.scatter_reduce_(0, index[queries].to(peaks.device), block.amax((1, 2)).to(peaks.device), "amax")
        return peaks

    def _small_classes(self, labels: Tensor, num_classes: int) -> Tensor:
        """``[C]`` bool: foreground classes with at most ``area_threshold`` of all foreground pixels."""
        counts = torch.bincount(labels.flatten().long(), minlength=num_classes)
        foreground = torch.ones(num_classes, dtype=torch.bool, device=labels.device)
        foreground[self.background] = False
        total = counts[foreground].sum()
        return foreground & ~(counts > self.area_threshold * total)

    def _best_kept(self, scores: AnyScoreMap, query_to_class: Tensor, num_classes: int, need_sum: bool) -> _Best:
        """The best class of every pixel among those that the rules for whole classes keep."""
        if not (self.area_threshold or self.peak_threshold):
            return self._best(scores, query_to_class, need_sum)
        plain = self._best(scores, query_to_class, need_sum) if self.area_threshold else None
        dropped = self._dropped(scores, query_to_class, num_classes, None if plain is None else plain.labels)
        if plain is not None and not dropped.any():
            return plain
        best = self._best(scores, query_to_class, need_sum, allowed=~dropped)
        if dropped[query_to_class].all():
            best.logits.zero_()
        return best

    def _best(
        self, scores: AnyScoreMap, query_to_class: Tensor, need_sum: bool, allowed: Tensor | None = None
    ) -> _Best:
        """Stream over the blocks; ``allowed`` ``[C]`` bool excludes classes from winning, not from the softmax."""
        best: _Best | None = None
        for queries, rows, columns, block in scores.blocks():
            if best is None:
                best = _Best(scores.size, block.device, need_sum, self.logit_scale)
            classes = query_to_class[queries].to(block.device)
            best.update(rows, columns, block, classes, None if allowed is None else allowed.to(block.device)[classes])
        return best


class _Best:
    """Running best class and log-sum-exp per pixel, all ``[H, W]``."""

    def __init__(self, size: tuple[int, int], device: torch.device, need_sum: bool, scale: float) -> None:
        self.logits = torch.full(size, -torch.inf, device=device)
        self.labels = torch.zeros(size, dtype=torch.int32, device=device)
        self.lse = torch.full(size, -torch.inf, device=device) if need_sum else None
        self.scale = scale

    def update(self, rows: slice, columns: slice, block: Tensor, classes: Tensor, allowed: Tensor | None) -> None:
        if self.lse is not None:
            lse = (block * self.scale).logsumexp(dim=0)
            self.lse[rows, columns] = torch.logaddexp(self.lse[rows, columns], lse)
        if allowed is not None:
            block, classes = block[allowed], classes[allowed]
            if not len(classes):
                return
        value, index = block.max(dim=0)
        label = classes[index].to(torch.int32)
        old, old_label = self.logits[rows, columns], self.labels[rows, columns]
        # equal scores go to the lower class, whatever the order of the blocks
        better = (value > old) | ((value == old) & (label < old_label))
        self.logits[rows, columns] = torch.where(better, value, old)
        self.labels[rows, columns] = torch.where(better, label, old_label)

    def confidence(self, scale: float) -> Tensor:
        return (self.logits * scale - self.lse).exp()
