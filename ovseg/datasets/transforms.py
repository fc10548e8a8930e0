"""The data pipeline's steps: load, resize as the official code does, load the label map, pack.

What travels between them is a dict: ``img_path`` and ``seg_map_path`` come in; ``image`` (what the model will get),
``original`` (the photo at full size), ``labels`` (the label map, always at the original size) are added.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import cv2
import numpy as np
import torch
from mmcv.transforms import BaseTransform
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from PIL import Image

from ovseg.arguments import side_in_pixels
from ovseg.datasets.errors import ImageReadError, MaskReadError
from ovseg.datasets.io import MAX_PIXELS, mask_source, photo_source, read_image, read_mask
from ovseg.registry import TRANSFORMS

_PIL_FILTERS = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}


def short_side_size(height: int, width: int, short_side: int, max_long: int = 2048) -> tuple[int, int]:
    """``(h, w)`` after mmcv's ``imrescale`` to scale ``(max_long, short_side)``, aspect ratio kept.

    The factor is ``min(max_long / longer side, short_side / shorter side)``, sides are rounded half up (METHODS 0).

    >>> short_side_size(375, 500, 336)
    (336, 448)
    """
    factor = min(max_long / max(height, width), short_side / min(height, width))
    # mmcv would give 0 pixels for a very thin image
    return max(1, int(height * factor + 0.5)), max(1, int(width * factor + 0.5))


def resize_short_side(image: np.ndarray, short_side: int, max_long: int = 2048) -> np.ndarray:
    """Resize as the mm family does: :func:`short_side_size` and OpenCV's bilinear filter on uint8.

    Args:
        image: uint8 ``[H, W, 3]``.

    Returns:
        uint8 ``[h, w, 3]``.
    """
    h, w = short_side_size(*image.shape[:2], short_side, max_long)
    return cv2.resize(image, (w, h), interpolation=cv2.INTER_LINEAR)


@TRANSFORMS.register_module()
class LoadImage(BaseTransform):
    """Read ``img_path``, ``img_bytes`` or what lies at ``photo_place`` with :func:`ovseg.datasets.io.read_image`.

    Adds ``image``, ``original``, ``ori_shape``.

    Args:
        max_pixels: largest photo accepted, width x height.

    Raises:
        ImageReadError: from :meth:`transform`, when the photo cannot be read.
    """

    def __init__(self, max_pixels: int = MAX_PIXELS) -> None:
        self.max_pixels = max_pixels

    def transform(self, results: dict) -> dict:
        try:
            photo = read_image(photo_source(results), self.max_pixels)
        except ImageReadError as error:  # bytes do not know where they come from
            raise ImageReadError(results["img_path"], error.reason) from error
        results["image"] = results["original"] = photo
        results["ori_shape"] = results["image"].shape[:2]
        return results


@TRANSFORMS.register_module()
class ResizeShortSide(BaseTransform):
    """Short side to ``short_side`` pixels, long side at most ``max_long``: :func:`resize_short_side`.

    Args:
        short_side: pixels.
        max_long: pixels.

    Raises:
        ValueError: for sides that are no whole number of pixels.
    """

    def __init__(self, short_side: int, max_long: int = 2048) -> None:
        self.short_side, self.max_long = side_in_pixels("short_side", short_side), side_in_pixels("max_long", max_long)

    def transform(self, results: dict) -> dict:
        results["image"] = resize_short_side(results["image"], self.short_side, self.max_long)
        return results


def shortest_edge_size(height: int, width: int, short_side: int, max_long: int) -> tuple[int, int]:
    """``(h, w)`` after detectron2's ``ResizeShortestEdge``: the shorter side is ``short_side``, but the longer at most
    ``max_long``; sides are rounded half up.

    >>> shortest_edge_size(400, 600, 640, 2560)
    (640, 960)
    """
    factor = short_side / min(height, width)
    h, w = (short_side, factor * width) if height < width else (factor * height, short_side)
    if max(h, w) > max_long:
        shrink = max_long / max(h, w)
        h, w = h * shrink, w * shrink
    return max(1, int(h + 0.5)), max(1, int(w + 0.5))


@TRANSFORMS.register_module()
class ResizeShortestEdge(BaseTransform):
    """detectron2's resizing: :func:`shortest_edge_size`, Pillow's antialiased bilinear filter on uint8.

    A label map in ``labels`` is resized too (nearest) where ``labels=True``, which is for training; it otherwise stays
    at the photo's size, at which results are judged.

    Args:
        short_side: pixels, or several to choose from at random (training).
        max_long: pixels.
        labels: see above.
    """

    def __init__(self, short_side: int | Sequence[int], max_long: int = 2560, labels: bool = False) -> None:
        several = isinstance(short_side, Sequence)
        sides = [side_in_pixels("short_side", side) for side in (short_side if several else [short_side])]
        self.short_side, self.max_long = (sides if several else sides[0]), side_in_pixels("max_long", max_long)
        self.labels = labels

    def transform(self, results: dict) -> dict:
        several = isinstance(self.short_side, Sequence)
        side = self.short_side[np.random.randint(len(self.short_side))] if several else self.short_side
        size = shortest_edge_size(*results["image"].shape[:2], side, self.max_long)
        results["image"] = _pil_resize(results["image"], size, Image.Resampling.BILINEAR)
        if self.labels:
            results["labels"] = cv2.resize(results["labels"], size[::-1], interpolation=cv2.INTER_NEAREST)
        return results


@TRANSFORMS.register_module()
class ResizePIL(BaseTransform):
    """Resize with Pillow's antialiasing filters, as CLIP's own preprocessing does.

    - CLIPtrase (METHODS 9): ``ResizePIL(short_side=224, center_crop=True)``. Short side to 224, the long side truncated
      to whole pixels, then the central square. The label map is resized (nearest) and cropped alike: evaluation is on
      the crop, ``ori_shape`` becomes the crop's size. Must come after :class:`LoadMask`.
    - CLIPer (METHODS 11): ``ResizePIL(short_side=336, multiple_of=16)``. Each side to the nearest multiple of 16 after
      scaling; labels stay at the original size.

    Args:
        short_side: pixels; several: one of them is drawn for each photo.
        multiple_of: ``None``, or what both sides are rounded to.
        center_crop: cut the central ``short_side`` square out of photo and label map.
        interpolation: ``'bicubic'`` or ``'bilinear'``.

    Raises:
        ValueError: for an unknown filter, sides that are no whole number of pixels, or ``center_crop`` together with
            ``multiple_of``.
    """

    def __init__(
        self,
        short_side: int | Sequence[int],
        multiple_of: int | None = None,
        center_crop: bool = False,
        interpolation: str = "bicubic",
    ) -> None:
        if interpolation not in _PIL_FILTERS:
            raise ValueError(f"interpolation {interpolation!r}; there are {', '.join(_PIL_FILTERS)}")
        if center_crop and multiple_of:
            raise ValueError("center_crop gives a square of short_side pixels; multiple_of cannot be set as well")
        several = isinstance(short_side, Sequence) and not isinstance(short_side, str)
        if several and len(short_side) < 2:
            raise ValueError(f"short_side is {short_side}; give a whole number of pixels, or at least two of them")
        sides = tuple(side_in_pixels("short_side", side) for side in (short_side if several else [short_side]))
        self.short_side = sides if several else sides[0]
        multiple_of = side_in_pixels("multiple_of", multiple_of, 16) if multiple_of is not None else None
        self.multiple_of, self.center_crop = multiple_of, center_crop
        self.interpolation = interpolation

    def transform(self, results: dict) -> dict:
        height, width = results["image"].shape[:2]
        several = isinstance(self.short_side, tuple)
        one = self.short_side[np.random.randint(len(self.short_side))] if several else self.short_side
        h, w = self._size(height, width, one)
        results["image"] = _pil_resize(results["image"], (h, w), _PIL_FILTERS[self.interpolation])
        if self.center_crop:
            results["image"] = results["original"] = _middle(results["image"], one)
            results["ori_shape"] = results["image"].shape[:2]
            if "labels" in results:
                results["labels"] = _middle(_pil_resize(results["labels"], (h, w), Image.Resampling.NEAREST), one)
        return results

    def _size(self, height: int, width: int, short_side: int) -> tuple[int, int]:
        short = min(height, width)
        if self.multiple_of:
            m, factor = self.multiple_of, short_side / short
            return tuple(max(m, int(side * factor / m + 0.5) * m) for side in (height, width))
        long = int(short_side * max(height, width) / short)
        return (short_side, long) if height <= width else (long, short_side)


def _middle(array: np.ndarray, side: int) -> np.ndarray:
    """The square in the middle."""
    top, left = (int(round((n - side) / 2.0)) for n in array.shape[:2])
    return np.ascontiguousarray(array[top : top + side, left : left + side])


def _pil_resize(array: np.ndarray, size: tuple[int, int], resample: Image.Resampling) -> np.ndarray:
    return np.asarray(Image.fromarray(array).resize((size[1], size[0]), resample))


@TRANSFORMS.register_module()
class LoadMask(BaseTransform):
    """Read ``seg_map_path`` into ``labels``: int32 ``[H, W]``, classes ``0..num_classes - 1`` or the ignore index.

    A mask belongs to the photo as a viewer shows it: where the photo carries an EXIF rotation, the mask's pixels must
    be rotated too. A mask whose size does not fit is an error, never resized.

    ``num_classes``, ``ignore_index``, ``reduce_zero_label`` and ``label_map`` come from the data set, with the sample.

    Raises:
        MaskReadError: from :meth:`transform`: missing or unreadable mask, other size than the photo, or a label that is
            neither a class nor the ignore index.
    """

    def transform(self, results: dict) -> dict:
        results["labels"] = self.to_classes(self.read(results), results)
        return results

    def read(self, results: Mapping[str, object]) -> np.ndarray:
        """int32 ``[H, W]`` labels as the file has them, of the photo's size (``ori_shape``).

        Raises:
            MaskReadError: for a file that is missing, unreadable or of another size.
        """
        path = results.get("seg_map_path")
        if path is None:
            raise MaskReadError(
                results["img_path"], "the data set gives no label maps (mask_dir is not set), or none for this photo"
            )
        labels = read_labels(results)
        height, width = results["ori_shape"]
        if labels.shape != (height, width):
            turned = " (the photo's EXIF rotation is applied; is the mask drawn on the unrotated pixels?)"
            hint = turned if labels.shape == (width, height) else ""
            raise MaskReadError(
                path, f"it is {labels.shape[1]} x {labels.shape[0]}, its photo {width} x {height}{hint}"
            )
        return labels

    def to_classes(self, labels: np.ndarray, results: Mapping[str, object]) -> np.ndarray:
        """Classes or the ignore index of labels as files have them, int32 ``[H, W]``.

        Raises:
            MaskReadError: naming labels that are neither.
        """
        ignore = results["ignore_index"]
        if results.get("label_map"):
            labels = map_labels(labels, results["label_map"])
        if results.get("reduce_zero_label"):
            labels = reduce_zero_label(labels, ignore)
        path, reduced = results["seg_map_path"], results.get("reduce_zero_label", False)
        check_labels(labels, results["num_classes"], ignore, path, reduced)
        return labels


def read_labels(info: Mapping[str, object]) -> np.ndarray:
    """int32 ``[H, W]`` labels of a sample as its file has them, of whatever size.

    Raises:
        MaskReadError: naming the file.
    """
    if "read_labels" in info:
        return info["read_labels"](info["seg_map_path"])
    try:
        return read_mask(mask_source(info))
    except MaskReadError as error:  # bytes do not know where they come from
        raise MaskReadError(info["seg_map_path"], error.reason) from error


def reduce_zero_label(labels: np.ndarray, ignore_index: int = 255) -> np.ndarray:
    """Label 0 becomes the ignore index, label k becomes k - 1, the ignore index stays; any number of classes.

    >>> reduce_zero_label(np.array([0, 1, 150, 255]))
    array([255,   0, 149, 255])
    """
    return np.where((labels == 0) | (labels == ignore_index), ignore_index, labels - 1).astype(labels.dtype)


def map_labels(labels: np.ndarray, label_map: Mapping[int, int]) -> np.ndarray:
    """Replace labels by ``label_map[label]``; labels that are not in it stay."""
    values, inverse = np.unique(labels, return_inverse=True)
    mapped = np.array([label_map.get(int(v), int(v)) for v in values], dtype=labels.dtype)
    return mapped[inverse].reshape(labels.shape)


def check_labels(labels: np.ndarray, num_classes: int, ignore_index: int, path: str, reduced: bool = False) -> None:
    """Check that every label is a class or the ignore index.

    Raises:
        MaskReadError: naming the labels that are neither.
    """
    bad = ((labels >= num_classes) | (labels < 0)) & (labels != ignore_index)
    if bad.any():
        values, counts = np.unique(labels[bad], return_counts=True)
        shown = ", ".join(f"{v + reduced} ({n} px)" for v, n in zip(values[:5], counts[:5], strict=True))
        more = f" and {len(values) - 5} more" if len(values) > 5 else ""
        valid = f"{int(reduced)}..{num_classes - 1 + reduced}"
        raise MaskReadError(
            path,
            f"it holds label {shown}{more}; the data set has {num_classes} classes ({valid}) and ignores {ignore_index}"
            f"{' and 0' if reduced else ''}. Is it another data set's mask, or not yet converted "
            "(tools/prepare_data.py, `reduce_zero_label`)?",
        )


@TRANSFORMS.register_module()
class PackInputs(BaseTransform):
    """Make the sample that the model gets.

    Gives ``inputs`` (uint8 RGB ``[3, h, w]``), ``data_samples`` (:class:`mmseg.structures.SegDataSample` with
    ``gt_sem_seg`` int32 ``[1, H, W]`` where there is a label map) and each of ``keys``: ``original`` as uint8
    ``[3, H, W]``, other arrays and text as they are.

    Args:
        keys: what a method asks for beyond the resized photo, e.g. ``('original',)``, ``('regions',)``.
        meta_keys: what the data sample carries as metainfo, where present.
    """

    def __init__(
        self,
        keys: Sequence[str] = (),
        meta_keys: Sequence[str] = (
            "name",
            "img_path",
            "seg_map_path",
            "ori_shape",
            "img_shape",
            "sample_idx",
            "photo_place",
        ),
    ) -> None:
        self.keys, self.meta_keys = tuple(keys), tuple(meta_keys)

    def transform(self, results: dict) -> dict:
        results["img_shape"] = results["image"].shape[:2]
        sample = self._sample(results)
        if "labels" in results:
            sample.gt_sem_seg = PixelData(data=torch.from_numpy(results["labels"].astype(np.int32))[None])
        packed = dict(inputs=_channels_first(results["image"]), data_samples=sample)
        for key in self.keys:
            if key not in results:
                raise KeyError(f"PackInputs(keys={self.keys}): no step of the pipeline gives {key!r}")
            value = results[key]
            if isinstance(value, str):
                packed[key] = value
            else:
                packed[key] = _channels_first(value) if key == "original" else torch.from_numpy(np.asarray(value))
        return packed

    def pack_error(self, info: dict, error: Exception) -> dict:
        """The stand-in for a sample that could not be prepared: ``inputs=None`` and metainfo ``error``."""
        sample = self._sample({**info, "error": str(error)})
        return dict(inputs=None, data_samples=sample, **dict.fromkeys(self.keys))

    def _sample(self, results: dict) -> SegDataSample:
        keys = (*self.meta_keys, "error")
        return SegDataSample(metainfo={k: results[k] for k in keys if k in results})


def _channels_first(image: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))
