"""From a photo to the inputs of a network, and from its maps back to the photo."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from ovseg.arguments import side_in_pixels
from ovseg.decoders.base import Prediction
from ovseg.describing import described
from ovseg.ops import bilinear_matrix
from ovseg.registry import FRAMINGS
from ovseg.scores import DecodedPart, DecodedScoreMap
from ovseg.windows import window_starts


def one_hot(maps: Tensor) -> Tensor:
    """1 where a map ``[K, h, w]`` is the largest of a pixel, else 0; of equal ones the first."""
    return torch.zeros_like(maps).scatter_(0, maps.argmax(dim=0, keepdim=True), 1.0)


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "sigmoid": torch.sigmoid,
    "none": lambda maps: maps,
    "one_hot": one_hot,
}


@described
class Framing:
    """How a photo becomes inputs of a network, and the maps of these become scores of the photo.

    Args:
        activation: of the logits, before maps are brought to the photo's size: ``'sigmoid'``, ``'none'``, or for masks
            that have class probabilities of their own ``'one_hot'``: a pixel is that of its largest mask.

    Raises:
        ValueError: for an unknown activation.
    """

    def __init__(self, activation: str = "sigmoid") -> None:
        if activation not in ACTIVATIONS:
            raise ValueError(f"activation is {activation!r}; choose one of {', '.join(ACTIVATIONS)}")
        self.activation = activation

    def frames(self, images: Tensor) -> Tensor:
        """Normalised images ``[B, 3, h, w]`` of one size to inputs ``[B * n, 3, H, W]``, those of an image together."""
        raise NotImplementedError

    def merge(self, prediction: Prediction, image_size: tuple[int, int], size: tuple[int, int]) -> DecodedScoreMap:
        """The scores of one photo.

        Args:
            prediction: of its inputs, in the order of :meth:`frames`.
            image_size: ``(h, w)`` of the image that was cut, in pixels.
            size: ``(H, W)`` of the scores.
        """
        raise NotImplementedError

    def describe(self) -> dict[str, object]:
        """What travels with a result."""
        return {"framing": repr(self)}

    def _scores(self, parts: list[DecodedPart]) -> DecodedScoreMap:
        return DecodedScoreMap(parts, ACTIVATIONS[self.activation])


@FRAMINGS.register_module()
class WholePhoto(Framing):
    """The photo as one input: zero padding (CLIP's mean colour) right and below, then optionally a fixed square.

    With ``cut_padding`` the way back is detectron2's: maps to the size of the padded image (bilinear), activation, the
    padding cut off, bilinear to the photo. Without it maps are activated as they are and stretched over the photo,
    padding included (CAT-Seg without windows).

    Args:
        pad_multiple: both sides become multiples of this; ``None``: no padding.
        side: side of the square that the padded image is resized to (bilinear, aspect ratio dropped); ``None``: none.
        cut_padding: see above.
        activation: see :class:`Framing`.
        activate_at: with ``cut_padding``: ``'padded'`` as above; ``'photo'``: logits are brought to the photo first
            (SAN; FC-CLIP where panoptic or instance masks are wanted, too).

    Raises:
        ValueError: for an unknown ``activate_at``, or ``'photo'`` without ``cut_padding``.
    """

    def __init__(
        self,
        pad_multiple: int | None = 32,
        side: int | None = None,
        cut_padding: bool = True,
        activation: str = "sigmoid",
        activate_at: str = "padded",
    ) -> None:
        super().__init__(activation)
        if activate_at not in ("padded", "photo"):
            raise ValueError(f"activate_at is {activate_at!r}; choose 'padded' or 'photo'")
        if activate_at == "photo" and not cut_padding:
            raise ValueError("activate_at='photo' needs cut_padding: without it there is one resizing only")
        self.activate_at = activate_at
        self.pad_multiple = side_in_pixels("pad_multiple", pad_multiple, 32) if pad_multiple is not None else None
        self.side = side_in_pixels("side", side, 384) if side is not None else None
        self.cut_padding = cut_padding

    def padded(self, size: tuple[int, int]) -> tuple[int, int]:
        """``(h, w)`` of the padded image."""
        multiple = self.pad_multiple or 1
        return tuple(-(-n // multiple) * multiple for n in size)

    def frames(self, images: Tensor) -> Tensor:
        h, w = images.shape[-2:]
        height, width = self.padded((h, w))
        images = F.pad(images, (0, width - w, 0, height - h))
        return images if self.side is None else _resize(images, (self.side, self.side))

    def merge(self, prediction: Prediction, image_size: tuple[int, int], size: tuple[int, int]) -> DecodedScoreMap:
        maps = prediction.maps[0]
        inner = None
        outer = [bilinear_matrix(n, m) for n, m in zip(maps.shape[1:], size, strict=True)]
        if self.cut_padding:
            inner = _pair(bilinear_matrix(n, m) for n, m in zip(maps.shape[1:], self.padded(image_size), strict=True))
            outer = [
                F.pad(bilinear_matrix(n, m), (0, full - n))
                for n, m, full in zip(image_size, size, self.padded(image_size), strict=True)
            ]
        if self.activate_at == "photo":
            inner = _pair(last @ first for last, first in zip(outer, inner, strict=True))
            outer = [torch.eye(n) for n in size]
        classes = None if prediction.classes is None else prediction.classes[0]
        return self._scores([DecodedPart(maps, _on(maps, inner), _on(maps, _pair(outer)), classes)])


@FRAMINGS.register_module()
class CropsAndWhole(Framing):
    """CAT-Seg's windows: crops of a square canvas, and the whole photo squeezed into one crop.

    The photo is resized (bilinear, aspect ratio dropped) to a square of ``canvas`` pixels, which is cut into crops;
    the photo itself, resized to one crop, comes last. Maps are brought to the crop (bilinear), activated, averaged over
    the crops that meet at a pixel, and averaged with the whole photo's map on the canvas.

    Args:
        canvas, crop, stride: in pixels; (640, 384, 256) gives 2 x 2 crops.
        side: inputs are resized (bilinear) to this side at last; ``None``: they stay crops.
        activation: see :class:`Framing`.
    """

    def __init__(
        self,
        canvas: int = 640,
        crop: int = 384,
        stride: int = 256,
        side: int | None = None,
        activation: str = "sigmoid",
    ) -> None:
        super().__init__(activation)
        self.canvas, self.crop = side_in_pixels("canvas", canvas, 640), side_in_pixels("crop", crop, 384)
        self.stride = side_in_pixels("stride", stride, 256)
        self.side = side_in_pixels("side", side, 336) if side is not None else None
        if crop > canvas or stride > crop:
            raise ValueError(f"canvas {canvas}, crop {crop}, stride {stride}: each must be at most the one before it")
        self._starts = window_starts(canvas, crop, stride)

    def frames(self, images: Tensor) -> Tensor:
        canvas, crop = _resize(images, (self.canvas, self.canvas)), self.crop
        parts = [canvas[..., y : y + crop, x : x + crop] for y in self._starts for x in self._starts]
        frames = torch.stack([*parts, _resize(images, (crop, crop))], dim=1).flatten(0, 1)
        return frames if self.side is None else _resize(frames, (self.side, self.side))

    def merge(self, prediction: Prediction, image_size: tuple[int, int], size: tuple[int, int]) -> DecodedScoreMap:
        maps = prediction.maps
        inner = _pair(bilinear_matrix(n, self.crop) for n in maps.shape[2:])
        to_photo = [bilinear_matrix(self.canvas, n) for n in size]
        placed = [_placed(start, self._starts, self.crop, self.canvas) for start in self._starts]
        places = [(0.5 * to_photo[0] @ above, to_photo[1] @ left) for above in placed for left in placed]
        whole = bilinear_matrix(self.crop, self.canvas)
        places.append((0.5 * to_photo[0] @ whole, to_photo[1] @ whole))
        return self._scores(
            [
                DecodedPart(
                    maps[i],
                    _on(maps, inner),
                    _on(maps, outer),
                    None if prediction.classes is None else prediction.classes[i],
                )
                for i, outer in enumerate(places)
            ]
        )


@FRAMINGS.register_module()
class SlidingCrops(Framing):
    """Overlapping windows over the photo as it is, averaged where they meet: for models of one small scale (nano).

    Args:
        crop, stride: in pixels. A photo that is smaller is padded with zeros (CLIP's mean colour) right and below.
        activation: see :class:`Framing`.
    """

    def __init__(self, crop: int = 112, stride: int = 56, activation: str = "sigmoid") -> None:
        super().__init__(activation)
        self.crop, self.stride = side_in_pixels("crop", crop, 112), side_in_pixels("stride", stride, 56)
        if stride > crop:
            raise ValueError(f"stride is {stride}; it must lie between 1 and the crop ({crop}) or pixels are missed")

    def frames(self, images: Tensor) -> Tensor:
        h, w = images.shape[-2:]
        crop = self.crop
        images = F.pad(images, (0, max(crop - w, 0), 0, max(crop - h, 0)))
        rows, columns = (window_starts(n, crop, self.stride) for n in images.shape[-2:])
        parts = [images[..., y : y + crop, x : x + crop] for y in rows for x in columns]
        return torch.stack(parts, dim=1).flatten(0, 1)

    def merge(self, prediction: Prediction, image_size: tuple[int, int], size: tuple[int, int]) -> DecodedScoreMap:
        maps = prediction.maps
        inner = _on(maps, _pair(bilinear_matrix(n, self.crop) for n in maps.shape[2:]))
        axes = [self._axis(length, pixels) for length, pixels in zip(image_size, size, strict=True)]
        places = [(above, left) for above in axes[0] for left in axes[1]]
        return self._scores(
            [
                DecodedPart(
                    maps[i], inner, _on(maps, outer), None if prediction.classes is None else prediction.classes[i]
                )
                for i, outer in enumerate(places)
            ]
        )

    def _axis(self, length: int, pixels: int) -> list[Tensor]:
        """Of every window along an axis ``[pixels, crop]``: its share of the photo's pixels."""
        starts = window_starts(max(length, self.crop), self.crop, self.stride)
        to_photo = bilinear_matrix(length, pixels)
        return [to_photo @ _placed(start, starts, self.crop, max(length, self.crop))[:length] for start in starts]


def _placed(start: int, starts: list[int], crop: int, length: int) -> Tensor:
    """``[length, crop]``: where a crop's pixels lie along one axis, over the number of crops that meet there."""
    visits, placed = torch.zeros(length), torch.zeros(length, crop)
    for first in starts:
        visits[first : first + crop] += 1
    placed[start : start + crop] = torch.eye(crop)
    return placed / visits[:, None]


def _resize(images: Tensor, size: tuple[int, int]) -> Tensor:
    if tuple(images.shape[-2:]) == size:
        return images
    return F.interpolate(images, size=size, mode="bilinear", align_corners=False)


def _pair(matrices) -> tuple[Tensor, Tensor]:
    rows, columns = matrices
    return rows, columns


def _on(like: Tensor, matrices: tuple[Tensor, Tensor] | None) -> tuple[Tensor, Tensor] | None:
    return None if matrices is None else tuple(matrix.to(like.device) for matrix in matrices)
