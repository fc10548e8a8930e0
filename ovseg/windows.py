"""Windows over an image: where they lie, how they are cut and padded, and the way back along each axis."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from ovseg.arguments import side_in_pixels, whole_number
from ovseg.describing import described
from ovseg.ops import bilinear_matrix

COLOURS = {"black": (0.0, 0.0, 0.0), "clip": (0.48145466, 0.4578275, 0.40821073)}
"""Colours that windows can be padded with, RGB in 0..1; CLIP's mean is OpenAI's."""


def window_starts(size: int, crop: int, stride: int) -> list[int]:
    """First pixels of the windows along one axis (mmsegmentation's slide rule; the last window is moved back inside).

    >>> window_starts(500, 224, 112)
    [0, 112, 224, 276]
    """
    count = max(size - crop + stride - 1, 0) // stride + 1
    return [max(min(i * stride + crop, size) - crop, 0) for i in range(count)]


@dataclass(frozen=True)
class WindowLayout:
    """Where the windows of one image lie and how each was padded.

    Attributes:
        image_size: ``(h, w)`` of the image the windows were cut from, in pixels.
        starts: first rows and first columns of the windows.
        window: ``(height, width)`` of every window before padding.
        padded: ``(height, width)`` after padding.
        offset: rows and columns of padding before the window (top, left).
        align_corners: the outermost cells lie on the outermost pixels of the padded window, not half a cell inside.
    """

    image_size: tuple[int, int]
    starts: tuple[tuple[int, ...], tuple[int, ...]]
    window: tuple[int, int]
    padded: tuple[int, int]
    offset: tuple[int, int]
    align_corners: bool = False

    @property
    def shape(self) -> tuple[int, int]:
        """Windows per column and per row."""
        return len(self.starts[0]), len(self.starts[1])

    def __len__(self) -> int:
        return self.shape[0] * self.shape[1]

    def axis_matrix(self, axis: int, cells: int, size: int) -> Tensor:
        """The chain upsample, crop, place, average, resize along one axis: ``[size, windows * cells]``, float32."""
        return _axis_matrix(
            self.image_size[axis],
            self.starts[axis],
            self.window[axis],
            self.padded[axis],
            self.offset[axis],
            cells,
            size,
            self.align_corners,
        )

    def axis_parts(self, axis: int, cells: int, size: int) -> tuple[Tensor, list[Tensor]]:
        """The same chain in two steps, for scores that change between them: ``[window, cells]`` from a window's cells
        to its pixels, and for every window along the axis ``[size, window]``, its share of the output's pixels."""
        pixels, start = self.window[axis], self.offset[axis]
        up = bilinear_matrix(cells, self.padded[axis], self.align_corners)[start : start + pixels]
        placed = _axis_matrix(self.image_size[axis], self.starts[axis], pixels, pixels, 0, pixels, size, False)
        return up, list(placed.split(pixels, dim=1))


@lru_cache(maxsize=256)
@torch.inference_mode(False)  # kept for callers inside and outside of it
def _axis_matrix(
    length: int, starts: tuple[int, ...], window: int, padded: int, offset: int, cells: int, size: int, corners: bool
) -> Tensor:
    up = bilinear_matrix(cells, padded, corners)[offset : offset + window]
    placed = torch.zeros(length, len(starts) * cells, dtype=torch.float32, device="cpu")
    visits = torch.zeros(length, dtype=torch.float32, device="cpu")
    for i, start in enumerate(starts):
        placed[start : start + window, i * cells : (i + 1) * cells] = up
        visits[start : start + window] += 1
    placed /= visits[:, None]
    return placed if size == length else bilinear_matrix(length, size) @ placed


@described
class SlidingWindows:
    """Cuts images into overlapping windows.

    Args:
        crop: side of a window in pixels; ``None``: the whole image is one window.
        stride: distance of windows in pixels; defaults to half the crop.
        pad_multiple: zero padding (after normalisation, hence CLIP's mean colour) of each window to a multiple of this,
            split evenly with the odd pixel at the end (ClearCLIP 16; ProxyCLIP, Trident and CorrCLIP 56). Without it
            the patch embedding ignores what does not fill a patch and the grid is stretched over the window.
        pad_mode: ``'centre'`` as above, ``'end'``: right and bottom only (CLIP-DINOiser).
        pad_value: value of the padding in normalised units (a number), ``'black'`` for a black pixel, or ``'clip'`` for
            CLIP's mean colour, where the model's own mean is another (VIP).
        batch: windows computed at once; does not change the result.
        fit_multiple: resize the normalised image (bilinear) so that both sides are multiples of this and at least the
            crop, unless they are multiples already: windows then share one lattice of patches (Trident 16).
        stretch_multiple: windows are stretched (bicubic) so that both sides are multiples of this before they are
            encoded; their scores are those of the window all the same (dino.txt 16). In place of ``pad_multiple``.
        align_corners: how scores on a window's grid become scores of its pixels, as torch's ``interpolate`` has it
            (Talk2DINO: true).

    Raises:
        ValueError: for sizes that make no sense.
    """

    def __init__(
        self,
        crop: int | None = 224,
        stride: int | None = None,
        pad_multiple: int | None = None,
        pad_mode: str = "centre",
        pad_value: float | str = 0.0,
        batch: int = 8,
        fit_multiple: int | None = None,
        align_corners: bool = False,
        stretch_multiple: int | None = None,
    ) -> None:
        if crop is not None:
            crop = side_in_pixels("crop", crop, 224)
        if stride is not None:
            stride = side_in_pixels("stride", stride, 112)
        elif crop is not None:
            stride = max(1, crop // 2)
        if crop is not None and stride > crop:
            raise ValueError(f"stride is {stride}; it must lie between 1 and the crop ({crop}) or pixels are missed")
        if pad_multiple is not None:
            pad_multiple = side_in_pixels("pad_multiple", pad_multiple, 16)
        if fit_multiple is not None:
            fit_multiple = side_in_pixels("fit_multiple", fit_multiple, 16)
        if stretch_multiple is not None:
            stretch_multiple = side_in_pixels("stretch_multiple", stretch_multiple, 16)
            if pad_multiple is not None:
                raise ValueError("windows are padded or stretched; set pad_multiple or stretch_multiple, not both")
        if pad_mode not in ("centre", "end"):
            raise ValueError(f"pad_mode is {pad_mode!r}; choose 'centre' or 'end'")
        self.crop, self.stride, self.batch = crop, stride, whole_number("window batch", batch, example=8)
        self.pad_multiple, self.pad_mode, self.pad_value = pad_multiple, pad_mode, pad_value
        self.fit_multiple, self.align_corners = fit_multiple, align_corners
        self.stretch_multiple = stretch_multiple

    def fit(self, image: Tensor) -> Tensor:
        """``[3, h, w]`` normalised image resized for ``fit_multiple``.

        The longer side is rounded up to the multiple, the other follows in proportion and is rounded up too.
        """
        m, size = self.fit_multiple, tuple(image.shape[1:])
        if m is None or not (size[0] % m or size[1] % m):
            return image
        longest = -(-max(size) // m) * m
        fitted = [max(-(-int(n * longest / max(size)) // m) * m, self.crop or m) for n in size]
        return F.interpolate(image[None], size=fitted, mode="bilinear", align_corners=False)[0]

    def layout(self, height: int, width: int, patch_size: int) -> WindowLayout:
        """The windows of an image of ``height`` x ``width`` pixels.

        Windows smaller than one patch are padded to one patch even without ``pad_multiple``, so that a 1-pixel image
        has an answer too.
        """
        crop = self.crop or max(height, width)
        window = (min(crop, height), min(crop, width))
        starts = tuple(tuple(window_starts(n, crop, self.stride)) if self.crop else (0,) for n in (height, width))
        multiple = self.pad_multiple
        least = 1 if self.stretch_multiple else patch_size
        padded = tuple(-(-n // multiple) * multiple if multiple else max(n, least) for n in window)
        before = tuple((p - n) // 2 if self.pad_mode == "centre" else 0 for p, n in zip(padded, window, strict=True))
        return WindowLayout((height, width), starts, window, padded, before, self.align_corners)

    def cut(self, image: Tensor, layout: WindowLayout, mean: Tensor | None = None, std: Tensor | None = None) -> Tensor:
        """``[3, h, w]`` normalised image to ``[n, 3, H, W]`` padded windows, row by row.

        Args:
            mean, std: ``[3, 1, 1]`` of the normalisation, 0..255; needed where ``pad_value`` is a colour.
        """
        (h, w), (ph, pw), (top, left) = layout.window, layout.padded, layout.offset
        windows = torch.stack([image[:, y : y + h, x : x + w] for y in layout.starts[0] for x in layout.starts[1]])
        if (h, w) == (ph, pw):
            return self._stretched(windows)
        if self.pad_value in COLOURS:
            colour = 255 * torch.tensor(COLOURS[self.pad_value], device=mean.device).view(3, 1, 1)
            out = ((colour - mean) / std).to(windows).expand(len(windows), -1, ph, pw).clone()
        else:
            out = windows.new_full((len(windows), 3, ph, pw), float(self.pad_value))
        out[:, :, top : top + h, left : left + w] = windows
        return out

    def _stretched(self, windows: Tensor) -> Tensor:
        m, size = self.stretch_multiple, windows.shape[2:]
        if m is None or not any(n % m for n in size):
            return windows
        return F.interpolate(windows, size=[-(-n // m) * m for n in size], mode="bicubic", align_corners=False)

    def cut_ids(self, ids: Tensor, layout: WindowLayout, pad_id: int) -> Tensor:
        """``[h, w]`` integer map to ``[n, H, W]`` windows; padding gets ``pad_id``."""
        (h, w), (ph, pw), (top, left) = layout.window, layout.padded, layout.offset
        out = ids.new_full((len(layout), ph, pw), pad_id)
        places = [(y, x) for y in layout.starts[0] for x in layout.starts[1]]
        for i, (y, x) in enumerate(places):
            out[i, top : top + h, left : left + w] = ids[y : y + h, x : x + w]
        return out

    def describe(self) -> dict[str, object]:
        """What travels with a result."""
        facts = {"crop": self.crop, "stride": self.stride, "pad_multiple": self.pad_multiple}
        rare = {
            "fit_multiple": self.fit_multiple,
            "align_corners": self.align_corners,
            "stretch_multiple": self.stretch_multiple,
        }
        return facts | {name: value for name, value in rare.items() if value}
