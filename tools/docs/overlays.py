"""Overlays for the pages of methods: every method on a shipped photo, with an embedded model."""

from __future__ import annotations

import csv
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from tools.docs.methods import PAGES, PICTURES, REPOSITORY, base_configs, head_of, write_overlay_rows

WIDTH = 560
QUALITY = 82
LIMIT = 60_000
"""Most bytes of a committed picture."""


@dataclass(frozen=True)
class Scene:
    """A shipped picture with words for it.

    Attributes:
        path: below the repository.
        weights: the embedded model that knows such pictures.
        words: of its classes.
    """

    path: str
    weights: str
    words: tuple[str, ...]


PHOTO = Scene(
    "data/photos/images/000000013348.jpg", "nano-photo", ("aeroplane; airplane", "sky", "road", "tree", "building")
)
DRAWING = Scene(
    "data/scenes/scenes/images/0001.jpg", "nano", ("grass", "castle", "flying saucer", "bell", "orange", "telephone")
)


def shown_method(page: str) -> str:
    """The last of a page's methods (the fullest) that has settings of its own for an embedded model, or the last."""
    from ovseg.apis import has_own_config

    stems = [path.stem for path in base_configs(page, head_of((PAGES / f"{page}.md").read_text(encoding="utf-8")))]
    embedded = [stem for stem in stems if any(has_own_config(stem, s.weights) for s in (PHOTO, DRAWING))]
    return (embedded or stems)[-1]


def scene_for(method: str) -> Scene:
    """The photo; the drawn scene for methods whose further weights exist for nano only."""
    from ovseg.apis import has_own_config

    only_nano = has_own_config(method, DRAWING.weights) and not has_own_config(method, PHOTO.weights)
    return DRAWING if only_nano else PHOTO


def credit(scene: Scene) -> str:
    """Whose picture it is, as its licence asks."""
    if scene is DRAWING:
        return "Scene of the embedded benchmark, Microsoft Fluent Emoji (MIT)"
    with (REPOSITORY / "data" / "photos" / "licences.tsv").open(encoding="utf-8") as file:
        rows = {row["photo"]: row for row in csv.DictReader(file, delimiter="\t")}
    row = rows[Path(scene.path).name]
    return f"Photo: [Flickr]({row['flickr_photo_page']}), [{row['licence']}]({row['licence_url']}), colours added"


def make(methods: Sequence[str]) -> None:
    """Segment and write ``docs/pictures/methods/METHOD.jpg`` and what was run.

    Raises:
        RuntimeError: for a picture above ``LIMIT`` bytes.
    """
    import ovseg

    PICTURES.mkdir(parents=True, exist_ok=True)
    rows = []
    for name in methods:
        method = shown_method(name)
        scene = scene_for(method)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # words that the small model does not know
            model = ovseg.load(method, weights=scene.weights)
            model.set_vocabulary(list(scene.words))
        overlay = model.segment(REPOSITORY / scene.path).overlay()
        path = PICTURES / f"{name}.jpg"
        save_small(overlay, path)
        rows.append(
            {
                "method": name,
                "picture": path.name,
                "photo": scene.path,
                "protocol": model.protocol.partition("; words: yours")[0],
                "words": ", ".join(scene.words),
                "credit": credit(scene),
            }
        )
        print(f"{path.name}: {path.stat().st_size} bytes, {model.protocol}", flush=True)
        write_overlay_rows(rows)


def save_small(pixels: np.ndarray, path: Path) -> None:
    """Write ``[H, W, 3]`` uint8 RGB as a JPEG of ``WIDTH`` pixels.

    Raises:
        RuntimeError: if it is above ``LIMIT`` bytes.
    """
    image = Image.fromarray(pixels)
    height = round(image.height * WIDTH / image.width)
    image.resize((WIDTH, height), Image.Resampling.LANCZOS).save(path, quality=QUALITY, optimize=True)
    if path.stat().st_size > LIMIT:
        raise RuntimeError(f"{path} has {path.stat().st_size} bytes, more than {LIMIT}: lower QUALITY or WIDTH")
