"""Where in the photo each class is likely."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from ovseg.encoded import EncodedImage
from ovseg.segmentors import SamClipSegmentor
from ovseg.text import Vocabulary


@dataclass(frozen=True)
class HeatMaps:
    """Probabilities of some classes over a photo.

    Attributes:
        names: of the classes.
        maps: float32 ``[K, h, w]``: at every ``step``-th pixel of the photo, before any threshold.
        step: distance in pixels between the pixels looked at.
    """

    names: tuple[str, ...]
    maps: np.ndarray
    step: int

    def of(self, name: str) -> np.ndarray:
        """The map ``[h, w]`` of a class.

        Raises:
            KeyError: for a class that is not among ``names``.
        """
        if name not in self.names:
            raise KeyError(f"no map of {name!r}; there are maps of {', '.join(self.names)}")
        return self.maps[self.names.index(name)]


@torch.no_grad()
def heat_maps(
    encoded: EncodedImage,
    words: Vocabulary | str | Sequence | Mapping | None = None,
    classes: Sequence[str] | None = None,
    *,
    background: str | None = None,
    most: int = 8,
    max_side: int = 480,
) -> HeatMaps:
    """Class probabilities as the head makes labels of them, for some classes; memory grows with these, not with all.

    Args:
        encoded: the photo, from :meth:`ovseg.Segmenter.encode`.
        words, background: as in :meth:`ovseg.EncodedImage.segment`.
        classes: which; ``None``: those that label most pixels.
        most: how many of these.
        max_side: pixels are left out so that maps have at most this many on their long side.

    Raises:
        ValueError: for classes that are not among the words, or a method whose labels come from masks (SAM + CLIP).
    """
    model, record = encoded.opened()
    wording = encoded.wording(words, background)
    names = list(wording.vocabulary.display_names)
    if isinstance(model, SamClipSegmentor):
        raise ValueError("this method labels whole masks: there is no probability for every pixel")
    if classes is None:
        labels = model.decide(record, wording).labels
        counts = torch.bincount(labels.flatten().long(), minlength=len(names))
        chosen = [int(i) for i in counts.argsort(descending=True, stable=True)[:most] if counts[i]]
    else:
        if unknown := [name for name in classes if name not in names]:
            raise ValueError(f"{unknown[0]!r} is not among the {len(names)} classes: {', '.join(names[:10])}")
        chosen = [names.index(name) for name in classes]
    step = -(-max(record.photo.size) // max_side)
    evidence = model.evidence(model.score_map(record, wording), wording)
    maps = evidence.sampled(chosen, step)
    return HeatMaps(tuple(names[i] for i in chosen), maps.float().cpu().numpy(), step)
