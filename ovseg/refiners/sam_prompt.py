"""Trident's refinement: SAM redraws what was found, prompted by points, boxes and coarse masks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from segment_anything.utils.transforms import ResizeLongestSide
from torch import Tensor

from ovseg.backbones.sam import PromptTile
from ovseg.heads.evidence import Evidence
from ovseg.photo import Photo
from ovseg.region_maps import resize_regions
from ovseg.registry import REFINERS

VOID = -1


@REFINERS.register_module()
class SamPromptRefiner:
    """Prompts SAM with every connected component of the labels (Trident, Shi et al., ICCV 2025, section 3.4).

    Works at half size (labels nearest, probabilities bilinear) on the labels after the head's threshold. Pixels whose
    best class stays below ``coarse_threshold`` are left out; every 8-connected component
    of a class (the background too) gives one prompt: its most probable point, its box and its class's probability map.
    Masks whose predicted IoU exceeds ``iou_threshold`` redefine the class: ``sigmoid(mask) * p`` inside the union of
    its masks. Components whose mask failed keep their coarse probability. The largest wins; pixels no class claims,
    and photos where no mask passed, keep their labels. No threshold is applied afterwards.

    Needs ``photo_encoder=dict(type='SamBackbone', ...)`` in the model config, which a stitch may share, or a
    ``RadioSamBackbone`` (RADSeg+).

    Args:
        coarse_threshold: see above (VOC 0.2, Object 0.25, Context 0.15, Cityscapes 0.1, ADE and Stuff 0.05).
        iou_threshold: least predicted IoU of a mask that counts.
        min_area: least area of a component, in pixels at half size.
        mask_weight: factor of the probabilities in the mask prompt.
        unbatched_mask: the official code gives the mask prompt without its batch axis, so that SAM's prompt encoder
            normalises over rows in place of channels; the paper's numbers contain this. ``False``: as SAM means it.
        batch: prompts decoded at once.

    Raises:
        ValueError: for thresholds outside 0..1.
    """

    def __init__(
        self,
        coarse_threshold: float = 0.2,
        iou_threshold: float = 0.8,
        min_area: int = 225,
        mask_weight: float = 0.005,
        unbatched_mask: bool = True,
        batch: int = 32,
    ) -> None:
        for name, value in (("coarse_threshold", coarse_threshold), ("iou_threshold", iou_threshold)):
            if not 0 <= value <= 1:
                raise ValueError(f"{name} is {value}; it must lie between 0 and 1")
        self.coarse_threshold, self.iou_threshold = float(coarse_threshold), float(iou_threshold)
        self.min_area, self.mask_weight = int(min_area), float(mask_weight)
        self.unbatched_mask, self.batch = unbatched_mask, int(batch)

    @torch.no_grad()
    def __call__(self, labels: Tensor, photo: Photo, evidence: Evidence) -> Tensor:
        """Better labels ``[H, W]`` from labels ``[H, W]`` int32 and what they were made from."""
        out = labels.clone()
        for tile in photo.encoding.tiles:
            y0, y1, x0, x1 = tile.box
            part = out[y0:y1, x0:x1]
            best = torch.zeros(part.shape, device=part.device)
            for index, refined in self.refined_maps(labels, evidence, tile):
                better = refined > best
                best[better] = refined[better]
                part[better] = index
        return out

    def refined_maps(self, labels: Tensor, evidence: Evidence, tile: PromptTile) -> Iterator[tuple[int, Tensor]]:
        """Refined probabilities ``[h, w]`` of the classes found in a tile, one by one; nothing if no mask passed."""
        if min(tile.size) < 2:
            return
        y0, y1, x0, x1 = tile.box
        box = (slice(y0, y1), slice(x0, x1))
        half = (tile.size[0] // 2, tile.size[1] // 2)
        sure = evidence.best_at(half, *box) >= self.coarse_threshold
        small = torch.where(sure, resize_regions(labels[box], half), VOID).cpu().numpy()
        classes = [int(c) for c in np.unique(small) if c != VOID]
        probabilities = evidence.of_classes(classes, *box).float()
        found = [
            _ClassPrompts.collect(index, p, small == index, tile, self)
            for index, p in zip(classes, probabilities, strict=True)
        ]
        found = [prompts for prompts in found if prompts is not None]
        for prompts in found:
            prompts.ask(tile, self)
        if not any(prompts.passed for prompts in found):
            return
        for prompts in found:
            yield prompts.index, prompts.refined()


@dataclass
class _ClassPrompts:
    """The components of one class in one tile, and what SAM said to them.

    Attributes:
        index: the class.
        probability: ``[h, w]`` coarse probability of the class at full size.
        components: bool ``[n, h / 2, w / 2]``.
        points, boxes: ``[n, 2]`` (x, y), ``[n, 4]`` (x0, y0, x1, y1) at half size.
        mask_prompt: ``[1, side, side]``, SAM's own side being 256.
        logits: ``[h, w]`` largest mask logit of the masks that passed, ``None`` if none did.
        passed: whether any mask passed.
        failed: bool ``[h / 2, w / 2]``, the components whose mask did not pass.
    """

    index: int
    probability: Tensor
    components: np.ndarray
    points: Tensor
    boxes: Tensor
    mask_prompt: Tensor
    logits: Tensor | None = None
    passed: bool = False
    failed: np.ndarray | None = None

    @classmethod
    def collect(
        cls, index: int, probability: Tensor, mask: np.ndarray, tile: PromptTile, settings: SamPromptRefiner
    ) -> _ClassPrompts | None:
        """The prompts of a class; ``None`` if no component is large enough or the class is nowhere confident."""
        small = F.interpolate(probability[None, None], size=mask.shape, mode="bilinear", align_corners=False)[0, 0]
        if float(small.max()) < settings.coarse_threshold:
            return None
        _, ids, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
        large = [i for i in range(1, len(stats)) if stats[i, cv2.CC_STAT_AREA] >= settings.min_area]
        if not large:
            return None
        components = np.stack([ids == i for i in large])
        inside = np.where(components, small.cpu().numpy(), -1).reshape(len(large), -1).argmax(1)
        x, y, w, h = (
            stats[large, i] for i in (cv2.CC_STAT_LEFT, cv2.CC_STAT_TOP, cv2.CC_STAT_WIDTH, cv2.CC_STAT_HEIGHT)
        )
        device = probability.device
        return cls(
            index,
            probability,
            components,
            torch.tensor(np.stack([inside % mask.shape[1], inside // mask.shape[1]], 1), device=device).float(),
            torch.tensor(np.stack([x, y, x + w - 1, y + h - 1], 1), device=device).float(),
            mask_prompt(
                small,
                tile.size,
                settings.coarse_threshold,
                settings.mask_weight,
                tile.sam.prompt_encoder.mask_input_size[0],
            ),
        )

    def ask(self, tile: PromptTile, settings: SamPromptRefiner) -> None:
        """Decode all prompts and keep the masks that pass."""
        half, side = self.components.shape[1:], tile.sam.image_encoder.img_size
        masks = self.mask_prompt if settings.unbatched_mask else self.mask_prompt[None]
        self.failed = np.zeros(half, bool)
        for start in range(0, len(self.points), settings.batch):
            some = slice(start, start + settings.batch)
            points = to_square(self.points[some], half, side)[:, None]
            boxes = to_square(self.boxes[some].reshape(-1, 2), half, side).reshape(-1, 4)
            labels = torch.ones(points.shape[:2], device=points.device)
            low, iou = tile.predict(points, labels, boxes, masks)
            passed = iou[:, 0] > settings.iou_threshold
            self.failed |= self.components[some][~passed.cpu().numpy()].any(0)
            for logits in low[passed]:  # one at a time: a photo may have hundreds of components
                logits = tile.upscale(logits[None])[0, 0].float()
                self.logits = logits if self.logits is None else torch.maximum(self.logits, logits)
        self.passed = self.logits is not None

    def refined(self) -> Tensor:
        """Probability of the class after refinement, ``[h, w]``."""
        out = torch.zeros_like(self.probability)
        if self.logits is not None:
            out = self.probability * self.logits.sigmoid() * (self.logits > 0)
        if self.failed.any():
            failed = torch.from_numpy(self.failed).to(out.device)
            out = torch.maximum(out, self.probability * resize_regions(failed, tuple(out.shape)))
        return out


def to_square(xy: Tensor, size: tuple[int, int], side: int) -> Tensor:
    """(x, y) at half size to SAM's input, as if the half-size photo itself were resized to SAM's input.

    The official code does so although SAM sees the photo with its sides rounded up to multiples of 16, which shifts
    prompts by up to one or two per cent of the photo.
    """
    height, width = ResizeLongestSide.get_preprocess_shape(*size, side)
    return xy * xy.new_tensor([width / size[1], height / size[0]])


def mask_prompt(probability: Tensor, size: tuple[int, int], threshold: float, weight: float, side: int = 256) -> Tensor:
    """Probabilities as a mask prompt ``[1, side, side]``: resized to fit, low values cut, padded right and below.

    Args:
        probability: ``[h, w]`` map of one class, at half size.
        size: ``(H, W)`` of the photo itself. The prompt's sides follow from these (METHODS section 6): from the halves
            of an odd side they would come out a row or a column short (375 x 500 gives 192 x 256, 187 x 250 gives 191).
        threshold, weight: ``weight * p`` where ``p > threshold``, else 0.
        side: pixels of SAM's mask input.
    """
    fitted = [max(1, n) for n in ResizeLongestSide.get_preprocess_shape(*size, side)]
    small = F.interpolate(probability[None, None], size=fitted, mode="bilinear", align_corners=False)[0]
    small = torch.where(small > threshold, weight * small, 0.0)
    return F.pad(small, (0, side - fitted[1], 0, side - fitted[0]))
