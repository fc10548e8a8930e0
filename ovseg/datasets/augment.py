"""Random changes of photos for training, with and without label maps."""

from __future__ import annotations

import cv2
import numpy as np
from mmcv.transforms import BaseTransform
from PIL import Image
from segment_anything.utils.transforms import ResizeLongestSide

from ovseg.arguments import side_in_pixels, whole_number
from ovseg.registry import TRANSFORMS


@TRANSFORMS.register_module()
class RandomView(BaseTransform):
    """A random square of the photo, resized, mirrored half of the time; replaces ``image``.

    Args:
        size: side of the result in pixels.
        scale: smallest and largest side of the square as a share of the photo's shorter side.

    Raises:
        ValueError: for shares outside 0..1.
    """

    def __init__(self, size: int, scale: tuple[float, float] = (0.5, 1.0)) -> None:
        if not 0 < scale[0] <= scale[1] <= 1:
            raise ValueError(f"scale is {scale}; give two shares of the shorter side, 0 < least <= largest <= 1")
        self.size, self.scale = side_in_pixels("size", size, 448), tuple(scale)

    def transform(self, results: dict) -> dict:
        image = results["image"]
        height, width = image.shape[:2]
        side = max(1, round(min(height, width) * np.random.uniform(*self.scale)))
        y, x = np.random.randint(height - side + 1), np.random.randint(width - side + 1)
        view = image[y : y + side, x : x + side]
        method = cv2.INTER_AREA if side > self.size else cv2.INTER_LINEAR
        view = cv2.resize(view, (self.size, self.size), interpolation=method)
        results["image"] = view[:, ::-1] if np.random.rand() < 0.5 else view
        return results


@TRANSFORMS.register_module()
class PointPrompts(BaseTransform):
    """``image`` at SAM's size, and ``points`` on it: float32 ``[count, 2]``, x and y in its pixels, anywhere on it.

    Args:
        count: number of points.
        side: the longer side becomes so many pixels, as SAM resizes photos.
    """

    def __init__(self, count: int = 32, side: int = 1024) -> None:
        self.count, self.side = whole_number("count", count, 1), side_in_pixels("side", side, 1024)

    def transform(self, results: dict) -> dict:
        image = ResizeLongestSide(self.side).apply_image(np.ascontiguousarray(results["image"]))
        results["image"] = image
        results["points"] = (np.random.rand(self.count, 2) * (image.shape[1], image.shape[0])).astype(np.float32)
        return results


@TRANSFORMS.register_module()
class BoxCrops(BaseTransform):
    """A photo on a square, and crops of a random grid of boxes of it (DeCLIP, Wang et al., CVPR 2025, section 3.3).

    ``image`` becomes ``[size, size, 3]``: longest side ``size``, black right and below. Added are ``boxes`` float32
    ``[n, 4]`` (x0, y0, x1, y1 as shares of the square) and ``crops`` uint8 ``[n, 3, crop, crop]``, cut out of the photo
    as it was: longest side ``crop``, black around. Pillow's bicubic filter resizes both.

    Args:
        size, crop: see above, in pixels.
        most_rows: the grid has 1 to so many rows, and about half to twice as many columns.
        most_boxes: so many boxes of the grid at most, in random order.
    """

    def __init__(self, size: int = 560, crop: int = 224, most_rows: int = 6, most_boxes: int = 20) -> None:
        self.size, self.crop = side_in_pixels("size", size, 560), side_in_pixels("crop", crop, 224)
        self.most_boxes = int(most_boxes)
        self._grids = [
            (rows, columns)
            for rows in range(1, most_rows + 1)
            for columns in range((rows + 1) // 2, min(2 * rows + 1, most_rows + 1))
        ]

    def transform(self, results: dict) -> dict:
        rows, columns = self._grids[np.random.randint(len(self._grids))]
        return self.cut(results, box_grid(rows, columns)[np.random.permutation(rows * columns)][: self.most_boxes])

    def cut(self, results: dict, grid: np.ndarray) -> dict:
        """As :meth:`transform`, for given boxes ``[n, 4]`` as shares of the photo's width and height."""
        photo = Image.fromarray(results["image"])
        corners = np.round(grid * np.tile(photo.size, 2)).astype(int)
        crops = [_on_square(photo.crop(box), self.crop, centred=True) for box in corners.tolist()]
        scale = self.size / max(photo.size)
        results["image"] = _on_square(photo, self.size)
        results["boxes"] = (grid * np.tile(photo.size, 2) * scale / self.size).astype(np.float32)
        results["crops"] = np.stack(crops).transpose(0, 3, 1, 2)
        return results


def box_grid(rows: int, columns: int) -> np.ndarray:
    """Boxes ``[rows * columns, 4]`` (x0, y0, x1, y1) that share the unit square among them, row by row."""
    y, x = np.divmod(np.arange(rows * columns), columns)
    return np.stack([x / columns, y / rows, (x + 1) / columns, (y + 1) / rows], axis=1)


def _on_square(image: Image.Image, side: int, centred: bool = False) -> np.ndarray:
    """Longest side ``side``, black right and below, or all around."""
    scale = side / max(image.size)
    width, height = (max(1, round(n * scale)) for n in image.size)
    square = np.zeros((side, side, 3), np.uint8)
    top, left = ((side - height) // 2, (side - width) // 2) if centred else (0, 0)
    resized = image.resize((width, height), Image.Resampling.BICUBIC)
    square[top : top + height, left : left + width] = np.asarray(resized)
    return square
