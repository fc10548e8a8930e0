"""Cost against work: time and memory of one method over the photo's size and the number of classes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ovseg.apis import config_root
from ovseg.registry import MODELS
from ovseg.segmentors import OpenVocabSegmentor
from tools.benchmarking.clock import Clock, PeakMemory
from tools.benchmarking.methods import load_config

ALONG_PIXELS = (256, 512, 1024, 2048, 4096)
ALONG_CLASSES = (1, 10, 100, 1000)
WEIGHTS = {"nano": "nano/sclip_nano_scenes.py", "ViT-B/16": "sclip/sclip_vitb16_cityscapes.py"}
"""SCLIP with the embedded small CLIP and with ViT-B/16 stand-in weights."""
LARGEST = {"nano": 4096, "ViT-B/16": 1024}
"""Largest side that each is run at: ViT-B/16 at 4096 px has 1,296 windows."""
PIXEL_CLASSES, CLASS_SIDE = 21, 512


def curve(
    sides: Sequence[int], classes: Sequence[int], clock: Clock, repeats: int = 1, series: Sequence[str] = tuple(WEIGHTS)
) -> list[dict]:
    """Points of both curves: SCLIP's windows at full resolution, the photo is not made smaller.

    Args:
        sides: square photos of these sides in pixels, with 21 classes.
        classes: numbers of classes, at 512 px (or the largest of ``sides``, where that is smaller).
        clock: what time is.
        repeats: the least time of so many runs is taken.
        series: of :data:`WEIGHTS`.

    Returns:
        dicts with ``along`` (``'pixels'`` or ``'classes'``), ``series``, ``value``, ``ms``, ``peak_mib``.
    """
    points = []
    for name in series:
        config = load_config(config_root() / WEIGHTS[name], "bf16")
        config.model.vocabulary = None
        config.model.text_cache = False
        model = MODELS.build(config.model).eval()
        label = f"{name}, bf16"
        measure(model, _photo(64), 3, clock, 1)  # packs weights, loads libraries
        for side in (s for s in sides if s <= LARGEST[name]):
            figures = measure(model, _photo(side), PIXEL_CLASSES, clock, repeats)
            points.append(dict(along="pixels", series=label, value=side * side, **figures))
        side = min(CLASS_SIDE, max(sides))
        for count in classes:
            figures = measure(model, _photo(side), count, clock, repeats)
            points.append(dict(along="classes", series=label, value=count, **figures))
    return points


def measure(model: OpenVocabSegmentor, image: Tensor, classes: int, clock: Clock, repeats: int) -> dict[str, float]:
    """Milliseconds and peak MiB (beyond what was in use before) of one photo with so many classes."""
    generator = torch.Generator().manual_seed(classes)
    text = F.normalize(torch.randn(classes, model.backbone.tower.embed_dim, generator=generator), dim=-1)
    model.set_vocabulary([f"thing {i}" for i in range(classes)], text)
    model.head.threshold = model.head.area_threshold = 0.0

    def run() -> None:
        model.predict([model.prepare(image, tuple(image.shape[1:]), image)])

    peak = PeakMemory(image.device).growth(run)
    return dict(ms=round(min(clock.time(run) for _ in range(repeats)) * 1e3, 2), peak_mib=round(peak / 2**20, 1))


def _photo(side: int) -> Tensor:
    """uint8 RGB ``[3, side, side]``: smooth blobs, the same for a side."""
    coarse = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(side))
    image = F.interpolate(coarse, size=(side, side), mode="bicubic").clamp(0, 1)[0]
    return (image * 255).to(torch.uint8)


def describe(points: Sequence[dict]) -> str:
    """One line for the picture's title."""
    series = ", ".join(dict.fromkeys(p["series"] for p in points))
    return f"SCLIP ({series}); pixels with {PIXEL_CLASSES} classes, classes at {CLASS_SIDE} px"
