"""nano-photo looks at a data set's photos, so that class names that do not fit them are found."""

from __future__ import annotations

import numpy as np
import torch
from rich.console import Console
from rich.progress import track

from ovseg.apis import Segmenter
from ovseg.datasets import SegmentationDataset
from ovseg.datasets.check.naming import Looked
from ovseg.datasets.check.run import usable
from ovseg.datasets.errors import SampleError
from ovseg.scores import ScoreMap
from ovseg.text import Vocabulary

_SHARE = 0.01
"""Of a photo's pixels: smaller classes are not looked at."""


def look(dataset: SegmentationDataset, photos: int = 48, console: Console | None = None) -> Looked:
    """Scores of all class names where the label maps have a class.

    Args:
        dataset: photos and label maps; those that cannot be used are passed over.
        photos: how many are looked at, evenly over the data set.
        console: where progress is shown; ``None``: nowhere.

    Raises:
        VocabularyError: for names that cannot be words: empty ones, doubled ones, lists.
    """
    names = dataset.metainfo["classes"]
    vocabulary = Vocabulary.of([(name,) for name in names])
    segmenter = Segmenter(method="naclip")
    wording = segmenter.model.wording(vocabulary)
    places = np.unique(np.linspace(0, len(dataset) - 1, min(photos, len(dataset))).round().astype(int))
    rows: list[tuple[int, int, np.ndarray]] = []
    for place in track(places.tolist(), "looking", console=console, disable=console is None):
        try:
            image, labels = usable(dataset, place)
        except SampleError:
            continue
        model, encoded = segmenter.encode(image).opened()
        with torch.no_grad():
            scores = model.score_map(encoded, wording)
        assert isinstance(scores, ScoreMap)  # what NACLIP gives
        numbers, counts = np.unique(labels, return_counts=True)
        for label, count in zip(numbers.tolist(), counts.tolist(), strict=True):
            if 0 <= label < len(names) and label != dataset.metainfo["ignore_index"] and count >= _SHARE * labels.size:
                mask = torch.from_numpy(labels == label).float().to(scores.cells.device)
                weight = scores.rows.T @ mask @ scores.columns  # the mean over pixels of the enlarged scores
                rows.append((place, label, ((scores.cells * weight).sum(dim=(1, 2)) / count).cpu().numpy()))
    learned = segmenter.model.backbone.words
    return Looked(
        np.array([row[0] for row in rows], np.int64),
        np.array([row[1] for row in rows], np.int64),
        np.stack([row[2] for row in rows]) if rows else np.zeros((0, len(names)), np.float32),
        np.array([learned is not None and learned.knows(name) for name in names], bool),
        np.array([name.strip().lower() != "background" for name in names], bool),
    )
