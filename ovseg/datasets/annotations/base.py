"""What all kinds of annotations share: classes by name, and what becomes of pixels nobody labelled."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from ovseg.arguments import suggestion
from ovseg.datasets.errors import MaskReadError
from ovseg.datasets.fingerprint import content_hash

BACKGROUND = ("background", "unlabeled", "unlabelled")
"""Names of a class that stands for everything without an annotation."""


class Annotations:
    """Label maps of a data set, read from files that hold something else than class indices.

    Args:
        rename: ``{name in the files: class}``; ``None`` in the place of the class: these pixels are ignored.
        unlabelled: class of pixels without any annotation, or ``"ignore"``. ``None``: the class called background or
            unlabelled where there is one, else they are ignored.

    Attributes:
        suffixes: what its files end in after the photo's name; empty where one file holds all photos.
    """

    suffixes: tuple[str, ...] = ()

    def __init__(self, rename: Mapping[str, str | None] | None = None, unlabelled: str | None = None) -> None:
        self.rename = {_plain(k): v for k, v in (rename or {}).items()}
        self.unlabelled = unlabelled
        self._index: dict[str, int] = {}
        self._ignore = self._empty = 255

    def load(self, root: Path) -> None:
        """Read what :meth:`class_names` needs; paths are relative to ``root``."""

    def class_names(self) -> tuple[str, ...] | None:
        """Classes as the files name them, in their order; ``None`` where they do not say."""
        return None

    def bind(self, root: Path, names: Sequence[str], ignore_index: int) -> None:
        """Say what the data set's classes are; called once, before anything is read.

        Raises:
            ValueError: for a class in ``rename`` or ``unlabelled`` that is none of the data set's.
        """
        self._index = {_plain(name): i for i, name in enumerate(names)}
        self._ignore = ignore_index
        for target in self.rename.values():
            if target is not None and _plain(target) not in self._index:
                raise ValueError(f"annotations: rename gives {target!r}, which is no class{suggestion(target, names)}")
        if self.unlabelled is None:
            self._empty = next((self._index[name] for name in BACKGROUND if name in self._index), ignore_index)
        elif self.unlabelled == "ignore":
            self._empty = ignore_index
        elif _plain(self.unlabelled) in self._index:
            self._empty = self._index[_plain(self.unlabelled)]
        else:
            raise ValueError(f"annotations: unlabelled={self.unlabelled!r} is neither a class nor 'ignore'")

    def find(self, photos: Mapping[str, Path]) -> dict[str, str] | None:
        """References to be read, by name of the photo; ``None`` where each photo has a file of its own."""
        return None

    def unused(self) -> list[str]:
        """What :meth:`find` had no photo for."""
        return []

    def read(self, reference: str) -> np.ndarray:
        """Classes and the ignore index, int32 ``[H, W]``.

        Raises:
            MaskReadError: naming the file, or the annotation in it, and what is wrong.
        """
        raise NotImplementedError

    def digest(self, reference: str | None) -> str:
        """Hash of what :meth:`read` reads."""
        return content_hash(reference)

    def class_of(self, name: object, reference: str) -> int:
        """Index of a class, or the ignore index.

        Raises:
            MaskReadError: for a name that is no class.
        """
        plain = _plain(str(name))
        if plain in self.rename:
            target = self.rename[plain]
            return self._ignore if target is None else self._index[_plain(target)]
        if plain not in self._index:
            raise MaskReadError(
                reference,
                f"it has the class {name!r}, which is none of the data set's{suggestion(plain, self._index)}; add it, "
                "or say what it is with annotations=dict(rename={name: class or None})",
            )
        return self._index[plain]

    def paint(self, size: tuple[int, int], parts: Iterable[tuple[int, np.ndarray]]) -> np.ndarray:
        """int32 ``[H, W]``: ``(class, bool [H, W])`` one over the other, the last on top."""
        labels = np.full(size, self._empty, np.int32)
        for index, mask in parts:
            labels[mask] = index
        return labels


def _plain(name: str) -> str:
    return " ".join(name.replace("_", " ").split()).casefold() or name


def read_document(path: str | Path) -> object:
    """What a JSON file holds.

    Raises:
        MaskReadError: if it is missing or no JSON.
    """
    try:
        return json.loads(Path(path).read_bytes())
    except FileNotFoundError:
        raise MaskReadError(path, "no such file") from None
    except OSError as error:
        raise MaskReadError(path, f"cannot be read ({error.strerror or error})") from error
    except (ValueError, RecursionError) as error:
        raise MaskReadError(path, f"it is no whole JSON ({error})") from error
