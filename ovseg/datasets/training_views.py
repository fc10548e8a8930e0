"""What trainings on label maps do to photo and labels together: crop, padding, SSD's colours, mirror."""

from __future__ import annotations

import numpy as np
from mmcv.transforms import BaseTransform

from ovseg.arguments import side_in_pixels
from ovseg.registry import TRANSFORMS


@TRANSFORMS.register_module()
class ColourJitter(BaseTransform):
    """SSD's random brightness, contrast, saturation and hue (mmsegmentation's ``PhotoMetricDistortion``) of ``image``.

    Args:
        **kwargs: of ``PhotoMetricDistortion``; its defaults are SSD's.
    """

    def __init__(self, **kwargs: object) -> None:
        from mmseg.datasets.transforms import PhotoMetricDistortion  # takes a second to import

        self._distort = PhotoMetricDistortion(**kwargs)

    def transform(self, results: dict) -> dict:
        bgr = np.ascontiguousarray(results["image"][..., ::-1])
        results["image"] = np.ascontiguousarray(self._distort.transform(dict(img=bgr))["img"][..., ::-1])
        return results


@TRANSFORMS.register_module()
class CropAndPad(BaseTransform):
    """A random square of ``image`` and ``labels``; where they are smaller, they are filled up right and below.

    Args:
        size: side of the square in pixels.
        fill: value of the image's padding; the labels' is the sample's ``ignore_index``.
        most_of_one: share of the labelled pixels that one class may have; other squares are tried up to ten times
            (mmsegmentation's ``cat_max_ratio``). 1: the first square is taken (detectron2).

    Raises:
        ValueError: for a share outside 0..1.
    """

    def __init__(self, size: int, fill: int = 128, most_of_one: float = 1.0) -> None:
        if not 0 < most_of_one <= 1:
            raise ValueError(f"most_of_one is {most_of_one}; give a share of the pixels, above 0 and at most 1")
        self.size, self.fill, self.most_of_one = side_in_pixels("size", size, 512), int(fill), float(most_of_one)

    def transform(self, results: dict) -> dict:
        size, labels = self.size, results.get("labels")
        ignored = results.get("ignore_index", 255)
        for _ in range(10):
            y, x = (np.random.randint(max(0, side - size) + 1) for side in results["image"].shape[:2])
            part = slice(y, y + size), slice(x, x + size)
            if labels is None or self.most_of_one == 1 or self._is_mixed(labels[part], ignored):
                break
        image = results["image"][part]
        below, right = size - image.shape[0], size - image.shape[1]
        results["image"] = np.pad(image, ((0, below), (0, right), (0, 0)), constant_values=self.fill)
        if labels is not None:
            results["labels"] = np.pad(labels[part], ((0, below), (0, right)), constant_values=ignored)
        return results

    def _is_mixed(self, labels: np.ndarray, ignored: int) -> bool:
        _, counts = np.unique(labels[labels != ignored], return_counts=True)
        return len(counts) > 1 and counts.max() < self.most_of_one * counts.sum()


@TRANSFORMS.register_module()
class Mirror(BaseTransform):
    """``image`` and ``labels`` mirrored left to right, half of the time."""

    def transform(self, results: dict) -> dict:
        if np.random.rand() < 0.5:
            for key in ("image", "labels"):
                if key in results:
                    results[key] = np.ascontiguousarray(results[key][:, ::-1])
        return results
