"""Examples: photos that come with ovseg, each with the words that its label map shows and some that it does not."""

from __future__ import annotations

import numpy as np

from ovseg.datasets.io import read_mask
from ovseg.engine.config import config_root
from ovseg.text import Vocabulary

OTHERS = 3
"""Words per example that the photo does not show."""
_SETS = (("photos", ".", "voc21"), ("scenes", "scenes", "classes.txt"))


def examples(each: int = 4) -> list[list[str]]:
    """``[path, words]`` of some photos of every packaged set that is present."""
    data, found = config_root().parent / "data", []
    for name, folder, classes in _SETS:
        photos = sorted((data / name / folder / "images").glob("*.jpg"))
        if not photos:
            continue
        own = data / name / classes
        names = Vocabulary.from_file(own if own.is_file() else classes).display_names
        for photo in photos[:: max(1, len(photos) // each)][:each]:
            mask = read_mask(photo.parents[1] / "masks" / f"{photo.stem}.png")
            present = [int(i) for i in np.unique(mask) if i < len(names)]
            others = [i for i in range(1, len(names)) if i not in present]
            words = [*present, *others[:: max(1, len(others) // OTHERS)][:OTHERS]]
            found.append([str(photo), ", ".join(names[i] for i in words)])
    return found
