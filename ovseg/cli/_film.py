"""Films for ``ovseg segment``: frame by frame in, a film of overlays out, in memory of a few frames."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np

from ovseg.visualization import draw_overlay, legend_panel, palette_for, text_size

SUFFIXES = (".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg", ".wmv")


class FilmError(ValueError):
    """A film that cannot be read or written, or not to its end."""


class FilmReader:
    """The frames of a film in their order.

    Args:
        path: the file.

    Attributes:
        fps: frames per second; 25 where the file does not say it.
        frames: how many the file says it has; 0: it does not say.

    Raises:
        FilmError: for a file in which OpenCV finds no film.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        path.open("rb").close()  # a missing or forbidden file has an error of its own
        self._film = cv2.VideoCapture(str(path))
        if not self._film.isOpened():
            raise FilmError(f"{path}: OpenCV finds no film in this file; convert it, e.g. ffmpeg -i IN out.mp4")
        rate = self._film.get(cv2.CAP_PROP_FPS)
        self.fps = rate if 0 < rate < 1000 else 25.0
        count = self._film.get(cv2.CAP_PROP_FRAME_COUNT)
        self.frames = int(count) if 0 < count < 1e9 else 0
        self._problem = ""

    def __iter__(self) -> Iterator[np.ndarray]:
        """Frames uint8 ``[H, W, 3]`` BGR, as far as they can be read; :meth:`check` says whether these were all."""
        number, size = 0, None
        while True:
            there, frame = self._film.read()
            if not there:
                break
            if size is not None and frame.shape != size:
                self._problem = f"frame {number + 1} has another size than those before it"
                break
            size, number = frame.shape, number + 1
            yield frame
        if not self._problem and (number == 0 or number < self.frames):
            self._problem = f"only {number} of {self.frames or 'its'} frames can be read: the file is damaged"
        self._film.release()

    def check(self) -> None:
        """Raises FilmError if the film was not read to its end."""
        if self._problem:
            raise FilmError(f"{self.path}: {self._problem}")


class FilmWriter:
    """A film of overlays with one legend of all classes, so that neither colours nor size change.

    Args:
        path: ``.mp4`` or ``.avi``.
        fps: frames per second.
        names: one name per class.
        alpha: opacity of the colours.

    Raises:
        FilmError: (at the first frame) where OpenCV cannot write such a film.
    """

    def __init__(self, path: Path, fps: float, names: Sequence[str], alpha: float) -> None:
        self.path, self.fps, self.names, self.alpha = path, fps, tuple(names), alpha
        self._palette = palette_for(names)
        self._film: cv2.VideoWriter | None = None
        self._panel: np.ndarray | None = None

    def write(self, frame: np.ndarray, labels: np.ndarray) -> None:
        """One frame, uint8 RGB ``[H, W, 3]``, with its labels ``[H, W]``."""
        picture = draw_overlay(frame, labels, self.names, self._palette, self.alpha, legend=False)
        if self._panel is None:
            rows = [(tuple(colour), name) for colour, name in zip(self._palette, self.names, strict=True)]
            self._panel = legend_panel(rows, (), len(frame), frame.shape[1], text_size(len(frame)))
        height = max(len(picture), len(self._panel))
        width = picture.shape[1] + self._panel.shape[1]
        whole = np.full((height + height % 2, width + width % 2, 3), 250, np.uint8)  # codecs want even sides
        whole[: len(picture), : picture.shape[1]] = picture
        whole[: len(self._panel), picture.shape[1] : width] = self._panel
        if self._film is None:
            self._film = self._open(whole.shape[1], whole.shape[0])
        self._film.write(np.ascontiguousarray(whole[..., ::-1]))

    def _open(self, width: int, height: int) -> cv2.VideoWriter:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        code = cv2.VideoWriter.fourcc(*("MJPG" if self.path.suffix.lower() == ".avi" else "mp4v"))
        film = cv2.VideoWriter(str(self.path), code, self.fps, (width, height))
        if not film.isOpened():
            raise FilmError(
                f"{self.path}: OpenCV cannot write this film; name it .mp4 or .avi, in a folder you may write to"
            )
        return film

    def close(self) -> None:
        """Finish the file."""
        if self._film is not None:
            self._film.release()
