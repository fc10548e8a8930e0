"""The labels of one image with the words they stand for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ovseg import polygons
from ovseg.datasets.files import write_json, write_labels
from ovseg.results import coco, tools
from ovseg.results.images import encode_png, write_image
from ovseg.results.instances import Instance, instances_of
from ovseg.rle import check_size, decode_rle, encode_labels

if TYPE_CHECKING:
    import pandas
    import supervision
    from matplotlib.figure import Figure


@dataclass
class SegmentationResult:
    """Labels of one image with the words they stand for.

    Attributes:
        labels: ``[H, W]`` uint16 class indices into ``names``.
        names: one name per class.
        image: ``[H, W, 3]`` uint8 RGB, the photo itself (for :meth:`overlay`); ``None``: black.
        confidence: ``[H, W]`` float32, the probability 0..1 of the best class before any threshold, where it was asked
            for.
        top_classes, top_probabilities: ``[k, H, W]`` uint16 and float32, the best k classes of every pixel before any
            threshold, best first, where they were asked for.
        regions: ``[H, W]`` ids of the method's regions, where it has some (:meth:`instances`).

    Raises:
        ValueError: for labels that are no class, or parts of other sizes.
    """

    labels: np.ndarray
    names: tuple[str, ...]
    image: np.ndarray | None = None
    confidence: np.ndarray | None = None
    top_classes: np.ndarray | None = None
    top_probabilities: np.ndarray | None = None
    regions: np.ndarray | None = None

    def __post_init__(self) -> None:
        labels = np.asarray(self.labels)
        if labels.ndim != 2 or labels.dtype.kind not in "iu" or not labels.size:
            raise ValueError(f"labels are whole numbers [H, W], not {labels.dtype} {list(labels.shape)}")
        self.names = tuple(self.names)
        low, high = int(labels.min()), int(labels.max())
        if low < 0 or high >= len(self.names):
            raise ValueError(
                f"labels from {low} to {high} for {len(self.names)} names: every label is an index of a name"
            )
        self.labels = labels.astype(np.uint16, copy=False)
        if self.image is None:
            self.image = np.zeros((*labels.shape, 3), np.uint8)
        if self.image.shape[:2] != labels.shape:
            raise ValueError(f"an image of {self.image.shape[:2]} for labels of {labels.shape}")

    # ------------------------------------------------------------------ what is there
    def areas(self) -> dict[str, float]:
        """Share of the image (0..1) of every class that occurs, largest first."""
        counts = np.bincount(self.labels.ravel(), minlength=len(self.names))
        order = [i for i in np.argsort(-counts, kind="stable") if counts[i]]
        return {self.names[i]: float(counts[i] / self.labels.size) for i in order}

    def mask(self, name: str) -> np.ndarray:
        """``[H, W]`` bool mask of one class.

        Raises:
            KeyError: if ``name`` is not one of the classes.
        """
        if name not in self.names:
            raise KeyError(f"no class {name!r}; the vocabulary holds {', '.join(self.names[:10])}...")
        return self.labels == self.names.index(name)

    def instances(self, by_regions: bool | None = None, min_area: int = 1) -> list[Instance]:
        """Separate things, largest first.

        Args:
            by_regions: the pixels of one of the method's regions and one class are a thing; ``False``: 8-connected
                pixels of one class are; ``None``: regions where there are some.
            min_area: things of fewer pixels are left out.

        Raises:
            ValueError: if regions are asked for and there are none.
        """
        regions = self._regions(by_regions)
        return instances_of(self.labels, self.names, regions, self.confidence, min_area)

    def _regions(self, wanted: bool | None) -> np.ndarray | None:
        if wanted and self.regions is None:
            raise ValueError("this result has no regions: its method uses none; leave by_regions away")
        return None if wanted is False else self.regions

    # ------------------------------------------------------------------ pictures
    def overlay(self, alpha: float = 0.5, legend: bool = True) -> np.ndarray:
        """The photo with coloured classes and a legend, uint8 RGB (wider than the photo where there is a legend)."""
        from ovseg.visualization import draw_overlay

        assert self.image is not None  # see __post_init__
        return draw_overlay(self.image, self.labels, self.names, alpha=alpha, legend=legend)

    def plot(self, alpha: float = 0.5) -> Figure:
        """Photo and overlay side by side as a matplotlib figure.

        Raises:
            ImportError: saying what to install, without matplotlib.
        """
        try:
            from matplotlib.figure import Figure
        except ImportError as error:
            raise ImportError("plot() needs matplotlib: pip install matplotlib; save() does without") from error
        figure = Figure(figsize=(12, 12 * self.labels.shape[0] / self.labels.shape[1] / 2 + 0.5), layout="constrained")
        for axes, picture in zip(figure.subplots(1, 2), (self.image, self.overlay(alpha)), strict=True):
            axes.imshow(picture)
            axes.axis("off")
        return figure

    def _repr_png_(self) -> bytes:
        """What a notebook shows."""
        return encode_png(self.overlay())

    def __repr__(self) -> str:
        height, width = self.labels.shape
        shares = [f"{name} {share:.0%}" for name, share in self.areas().items()]
        more = f" and {len(shares) - 5} more" if len(shares) > 5 else ""
        return f"SegmentationResult({width} x {height} pixels: {', '.join(shares[:5])}{more})"

    def save(self, path: str | Path, alpha: float = 0.5) -> None:
        """Write :meth:`overlay` to ``path`` (format by suffix).

        Raises:
            OSError: naming the path, when it cannot be written.
        """
        write_image(path, self.overlay(alpha))

    def save_labels(self, path: str | Path) -> None:
        """Write the class indices as PNG or TIFF (by suffix): 8 bit up to 256 classes, else 16 bit.

        Raises:
            ValueError: for a suffix whose format does not keep them exactly.
            OSError: naming the path, when it cannot be written.
        """
        try:
            write_labels(path, self.labels, classes=len(self.names))
        except OSError as error:
            raise OSError(f"cannot write labels to {path}: {error}. Check the folder's permissions.") from error

    # ------------------------------------------------------------------ to other formats
    def to_rle(self) -> dict[str, dict[str, object]]:
        """COCO's run-length code ``{"size": [H, W], "counts": str}`` of every class that occurs, by name."""
        return {self.names[index]: code for index, code in encode_labels(self.labels).items()}

    def to_coco(
        self, image_id: int = 1, instances: bool = False, polygons: bool = False, by_regions: bool | None = None
    ) -> list[dict[str, object]]:
        """COCO annotations that together cover the labels exactly; see :func:`ovseg.results.coco.annotations_of`."""
        return coco.annotations_of(
            self.labels, self.names, image_id, self._regions(by_regions), instances, polygons, self.confidence
        )

    def save_coco(self, path: str | Path, file_name: str = "image.jpg", **options: Any) -> None:
        """Write a COCO file of this one photo that ``pycocotools.coco.COCO`` opens; options as :meth:`to_coco`."""
        photo = (file_name, self.labels.shape, self.to_coco(**options))
        write_json(path, coco.dataset([photo], self.names))

    def to_panoptic(
        self, instances: bool = False, by_regions: bool | None = None
    ) -> tuple[np.ndarray, list[dict[str, object]]]:
        """COCO's panoptic picture and segments; see :func:`ovseg.results.coco.panoptic`."""
        return coco.panoptic(self.labels, self.names, self._regions(by_regions), instances)

    def to_polygons(self) -> dict[str, list[list[np.ndarray]]]:
        """Outlines along the pixels' edges of every class that occurs, by name.

        Returns:
            per class its 4-connected parts; per part rings ``[N, 2]`` of corners (x, y) in pixels: the outer one, then
            holes.
        """
        return {self.names[i]: list(polygons.outlines(self.labels == i)) for i in np.unique(self.labels)}

    def to_geojson(self, transform: tools.Transform | None = None) -> dict[str, object]:
        """A GeoJSON FeatureCollection; see :func:`ovseg.results.tools.geojson`."""
        return tools.geojson(self.labels, self.names, transform, self.confidence)

    def to_labelme(self, image_path: str = "image.jpg", masks: bool = False) -> dict[str, object]:
        """LabelMe's JSON; see :func:`ovseg.results.tools.labelme`."""
        return tools.labelme(self.labels, self.names, image_path, masks)

    def to_cvat(self, image_name: str = "image.jpg") -> str:
        """CVAT's XML; see :func:`ovseg.results.tools.cvat`."""
        return tools.cvat(self.labels, self.names, image_name)

    def to_supervision(self, instances: bool = False, by_regions: bool | None = None) -> supervision.Detections:
        """``supervision.Detections`` with masks, class indices and names; one per class, or per thing.

        Raises:
            ImportError: saying what to install, without supervision.
        """
        try:
            import supervision
        except ImportError as error:
            raise ImportError("to_supervision() needs supervision: pip install supervision") from error
        found = self.to_coco(instances=instances, by_regions=by_regions)
        size = self.labels.shape
        boxes = np.array([a["bbox"] for a in found], np.float32).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        scores = None if self.confidence is None else np.array([a["score"] for a in found], np.float32)
        return supervision.Detections(
            xyxy=boxes,
            mask=np.stack([decode_rle(a["segmentation"], size) for a in found]),
            class_id=np.array([a["category_id"] for a in found], int),
            confidence=scores,
            data={"class_name": np.array([a["category_name"] for a in found])},
        )

    def to_pandas(self) -> pandas.DataFrame:
        """One row per class that occurs, largest first: ``name, class, pixels, share`` and ``confidence``.

        Raises:
            ImportError: saying what to install, without pandas.
        """
        try:
            import pandas
        except ImportError as error:
            raise ImportError("to_pandas() needs pandas: pip install pandas; areas() does without") from error
        return pandas.DataFrame(self.table())

    def table(self) -> list[dict[str, object]]:
        """The rows of :meth:`to_pandas` as dicts."""
        flat, count = self.labels.ravel(), len(self.names)
        pixels = np.bincount(flat, minlength=count)
        rows: list[dict[str, object]] = []
        sums = None if self.confidence is None else np.bincount(flat, self.confidence.ravel().astype(float), count)
        for i in np.argsort(-pixels, kind="stable"):
            if not pixels[i]:
                break
            row = {"name": self.names[i], "class": int(i), "pixels": int(pixels[i]), "share": pixels[i] / flat.size}
            if sums is not None:
                row["confidence"] = float(sums[i] / pixels[i])
            rows.append(row)
        return rows

    # ------------------------------------------------------------------ from other formats
    @classmethod
    def from_labels(
        cls, labels: np.ndarray | str | Path, names: Sequence[str], image: np.ndarray | None = None
    ) -> SegmentationResult:
        """Of an array of class indices, or a label map that :meth:`save_labels` wrote."""
        if isinstance(labels, str | Path):
            from ovseg.datasets.io import read_mask

            labels = read_mask(labels)
        return cls(labels, tuple(names), image)

    @classmethod
    def from_rle(
        cls,
        codes: Mapping[str, Mapping[str, Any]],
        names: Sequence[str],
        image: np.ndarray | None = None,
        fill: str | None = None,
    ) -> SegmentationResult:
        """Of :meth:`to_rle`; ``fill`` names the class of pixels that no mask covers.

        Raises:
            ValueError: if there are such pixels and no ``fill``, and for an unknown class.
            MaskCodeError: for a damaged code.
        """
        found = [{"category_name": name, "segmentation": code} for name, code in codes.items()]
        size = next(iter(codes.values()))["size"] if codes else None
        return cls.from_coco(found, names, size, image, fill)

    @classmethod
    def from_coco(
        cls,
        annotations: Iterable[Mapping[str, Any]],
        names: Sequence[str],
        size: Sequence[int] | None = None,
        image: np.ndarray | None = None,
        fill: str | None = None,
    ) -> SegmentationResult:
        """Of COCO annotations, later ones over earlier ones.

        Args:
            annotations: with run lengths (both kinds) or polygons; ``category_name``, or ``category_id`` as an index
                into ``names``.
            names: one name per class.
            size: ``(H, W)``; ``None``: of the image, or of the first run-length code.
            image: the photo.
            fill: class of pixels that no annotation covers.

        Raises:
            ValueError, MaskCodeError: see :meth:`from_rle`.
        """
        found = list(annotations)
        if size is None and image is not None:
            size = image.shape[:2]
        if size is None:
            codes = (a.get("segmentation") for a in found)
            size = next((c["size"] for c in codes if isinstance(c, Mapping) and "size" in c), None)
        if size is None:
            raise ValueError("these annotations do not say how large the photo is: give size=(H, W) or the image")
        labels, covered = coco.labels_from_annotations(found, (int(size[0]), int(size[1])), names)
        return cls._filled(labels, covered, names, image, fill)

    @classmethod
    def from_panoptic(
        cls,
        picture: np.ndarray,
        segments: Iterable[Mapping[str, object]],
        names: Sequence[str],
        image: np.ndarray | None = None,
        fill: str | None = None,
    ) -> SegmentationResult:
        """Of :meth:`to_panoptic`."""
        labels, covered = coco.labels_from_panoptic(picture, segments, names)
        return cls._filled(labels, covered, names, image, fill)

    @classmethod
    def from_polygons(
        cls,
        outlines: Mapping[str, Sequence[Sequence[np.ndarray]]],
        names: Sequence[str],
        size: tuple[int, int],
        image: np.ndarray | None = None,
        fill: str | None = None,
    ) -> SegmentationResult:
        """Of :meth:`to_polygons`."""
        labels, covered = np.zeros(check_size(*size), np.uint16), np.zeros(size, bool)
        for name, parts in outlines.items():
            if name not in names:
                raise ValueError(f"polygons of {name!r}, which is not among the {len(names)} names")
            for rings in parts:
                mask = polygons.fill(rings, size)
                labels[mask], covered = list(names).index(name), covered | mask
        return cls._filled(labels, covered, names, image, fill)

    @classmethod
    def from_geojson(
        cls,
        collection: Mapping[str, object],
        names: Sequence[str],
        size: tuple[int, int],
        image: np.ndarray | None = None,
        fill: str | None = None,
    ) -> SegmentationResult:
        """Of :meth:`to_geojson` in pixels (no ``transform``)."""
        labels, covered = tools.labels_from_geojson(collection, size, list(names))
        return cls._filled(labels, covered, names, image, fill)

    @classmethod
    def from_labelme(
        cls,
        document: Mapping[str, object],
        names: Sequence[str],
        image: np.ndarray | None = None,
        fill: str | None = None,
    ) -> SegmentationResult:
        """Of LabelMe's JSON (polygons and masks)."""
        labels, covered = tools.labels_from_labelme(document, list(names))
        return cls._filled(labels, covered, names, image, fill)

    @classmethod
    def from_cvat(
        cls,
        text: str,
        names: Sequence[str],
        image_name: str | None = None,
        image: np.ndarray | None = None,
        fill: str | None = None,
    ) -> SegmentationResult:
        """Of CVAT's XML (masks and polygons of one image)."""
        labels, covered = tools.labels_from_cvat(text, list(names), image_name)
        return cls._filled(labels, covered, names, image, fill)

    @classmethod
    def from_supervision(
        cls,
        detections: supervision.Detections,
        names: Sequence[str],
        image: np.ndarray | None = None,
        fill: str | None = None,
    ) -> SegmentationResult:
        """Of ``supervision.Detections`` with masks, later ones over earlier ones.

        Raises:
            ValueError: for detections without masks or classes, or as :meth:`from_rle`.
        """
        if detections.mask is None or detections.class_id is None or not len(detections):
            raise ValueError("these detections have no masks or no classes: boxes alone say nothing about pixels")
        labels, covered = np.zeros(detections.mask.shape[1:], np.uint16), np.zeros(detections.mask.shape[1:], bool)
        for mask, index in zip(detections.mask, detections.class_id, strict=True):
            if not 0 <= index < len(names):
                raise ValueError(f"class {index} of a detection is no index into {len(names)} names")
            labels[mask], covered = index, covered | mask
        return cls._filled(labels, covered, names, image, fill)

    @classmethod
    def _filled(
        cls,
        labels: np.ndarray,
        covered: np.ndarray,
        names: Sequence[str],
        image: np.ndarray | None,
        fill: str | None,
    ) -> SegmentationResult:
        names = tuple(names)
        if fill is not None and fill not in names:
            raise ValueError(f"fill is {fill!r}, which is not among the {len(names)} names")
        if fill is not None:
            labels = np.where(covered, labels, np.uint16(names.index(fill)))
        elif not covered.all():
            missing = int((~covered).sum())
            raise ValueError(f"{missing} pixels belong to nothing: name the class they are of with fill=...")
        return cls(labels, names, image)
