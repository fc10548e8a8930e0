"""COCO's JSON (instances, stuff, exports of CVAT, Label Studio, Roboflow and others) as ground truth."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

import numpy as np

from ovseg.datasets.annotations.base import Annotations, read_document
from ovseg.datasets.errors import DatasetNotFound, MaskReadError
from ovseg.datasets.fingerprint import content_hash
from ovseg.registry import ANNOTATIONS
from ovseg.rle import MaskCodeError, check_size, decode_segmentation

OVERLAPS = ("smallest", "last")
CROWDS = ("below", "ignore")


@ANNOTATIONS.register_module()
class CocoAnnotations(Annotations):
    """One JSON file with ``images``, ``annotations`` and ``categories``.

    Categories are classes by their names; their ids may have gaps. Segmentations are polygons, run lengths as a list or
    run lengths as COCO's string, drawn as pycocotools draws them. An annotation that only has a box is an error: a box
    is no mask.

    Args:
        file: the JSON file; relative to ``data_root``.
        overlap: which annotation has a pixel that several cover. ``"smallest"``: the one of the smallest mask, of equal
            ones the later (the order of COCO's files means nothing); ``"last"``: the later one in the file, as in tools
            with layers.
        crowd: regions marked ``iscrowd``: ``"below"``: painted first, under everything else; ``"ignore"``: ignored
            where nothing else is.
        rename, unlabelled: see :class:`Annotations`.
    """

    def __init__(
        self,
        file: str,
        overlap: str = "smallest",
        crowd: str = "below",
        rename: Mapping[str, str | None] | None = None,
        unlabelled: str | None = None,
    ) -> None:
        super().__init__(rename, unlabelled)
        for name, value, choices in (("overlap", overlap, OVERLAPS), ("crowd", crowd, CROWDS)):
            if value not in choices:
                raise ValueError(f"{name}={value!r}; it is {' or '.join(map(repr, choices))}")
        self.file, self.overlap, self.crowd = file, overlap, crowd
        self._path = Path(file)
        self._images: dict[str, dict] = {}
        self._of_image: dict[object, list[dict]] = {}
        self._categories: dict[object, str] = {}
        self._unused: list[str] = []

    def load(self, root: Path) -> None:
        """Read the file.

        Raises:
            DatasetNotFound: if it is missing or no such file; names the entry.
        """
        if self._images:
            return
        self._path = root / self.file
        try:
            data = read_document(self._path)
        except MaskReadError as error:
            raise DatasetNotFound(f"annotations: {error}") from error
        if not isinstance(data, dict) or not all(
            isinstance(data.get(k), list) for k in ("images", "annotations", "categories")
        ):
            raise DatasetNotFound(
                f"annotations: {self._path} has no lists images, annotations and categories: it is no COCO file of "
                "masks (predictions and panoptic files are others)"
            )
        for kind, keys in (("images", ("id", "file_name")), ("annotations", ()), ("categories", ("id", "name"))):
            for place, entry in enumerate(data[kind]):
                lacks = next((key for key in keys if key not in entry), None) if isinstance(entry, dict) else "a brace"
                if lacks is not None:
                    raise DatasetNotFound(f"annotations: {self._path}: entry {place} of {kind} lacks {lacks}")
                named = [key for key in ("id", "image_id", "category_id") if isinstance(entry.get(key), list | dict)]
                if named:
                    raise DatasetNotFound(
                        f"annotations: {self._path}: entry {place} of {kind}: {named[0]} is a number or a word, not "
                        f"{type(entry[named[0]]).__name__}"
                    )
        self._categories = {c["id"]: str(c["name"]) for c in data["categories"]}
        if len({type(one) for one in self._categories}) > 1:
            raise DatasetNotFound(f"annotations: {self._path}: ids of categories are of several types; give numbers")
        if len(self._categories) < len(data["categories"]):
            raise DatasetNotFound(f"annotations: {self._path}: two categories have one id")
        grouped: dict[object, list[dict]] = defaultdict(list)
        for annotation in data["annotations"]:
            grouped[annotation.get("image_id")].append(annotation)
        self._of_image = dict(grouped)
        self._images = {str(image["file_name"]).replace("\\", "/"): image for image in data["images"]}
        if len(self._images) < len(data["images"]):
            raise DatasetNotFound(f"annotations: {self._path}: two images have one file_name")
        lost = set(self._of_image) - {image["id"] for image in data["images"]}
        if lost:
            raise DatasetNotFound(
                f"annotations: {self._path}: {sum(len(self._of_image[i]) for i in lost)} annotations are of images "
                f"that are not in the file, e.g. image_id {next(iter(lost))!r}"
            )

    def __str__(self) -> str:
        return str(self._path)

    def class_names(self) -> tuple[str, ...]:
        return tuple(self._categories[i] for i in sorted(self._categories))

    def find(self, photos: Mapping[str, Path]) -> dict[str, str]:
        """By the path in the file without its ending, or, where only that is unique, by the name of the file alone."""
        by_stem = {str(PurePosixPath(name).with_suffix("")): name for name in self._images}
        by_name: dict[str, list[str]] = defaultdict(list)
        for stem in by_stem:
            by_name[PurePosixPath(stem).name].append(stem)
        bare: dict[str, list[str]] = defaultdict(list)
        for name in photos:
            bare[PurePosixPath(name).name].append(name)
        found = {}
        for name in photos:
            last = PurePosixPath(name).name
            if name in by_stem:
                found[name] = by_stem[name]
            elif len(by_name[last]) == 1 and len(bare[last]) == 1:
                found[name] = by_stem[by_name[last][0]]
        self._unused = sorted(set(self._images) - set(found.values()))
        return {name: f"{self._path}#{image}" for name, image in found.items()}

    def unused(self) -> list[str]:
        return self._unused

    def _entry(self, reference: str) -> tuple[dict, list[dict]]:
        image = self._images[reference.partition("#")[2]]
        return image, self._of_image.get(image["id"], [])

    def digest(self, reference: str | None) -> str:
        if reference is None or reference.partition("#")[2] not in self._images:
            return content_hash(None)
        image, annotations = self._entry(reference)
        size = [image.get("height"), image.get("width")]
        rows = [
            [self._categories.get(a.get("category_id")), a.get("iscrowd"), a.get("segmentation")] for a in annotations
        ]
        return content_hash(json.dumps([size, rows, self.overlap, self.crowd], sort_keys=True).encode())

    def read(self, reference: str) -> np.ndarray:
        if reference.partition("#")[2] not in self._images:
            raise MaskReadError(reference, "no such image in the file")
        image, annotations = self._entry(reference)
        try:
            size = check_size(image.get("height"), image.get("width"))
        except MaskCodeError as error:
            raise MaskReadError(reference, str(error)) from error
        parts: list[tuple[tuple, int, np.ndarray]] = []
        for place, annotation in enumerate(annotations):
            who = f"annotation {annotation.get('id', place)}"
            category = annotation.get("category_id")
            if category not in self._categories:
                raise MaskReadError(reference, f"{who} has category_id {category!r}, which is no category of the file")
            try:
                mask = decode_segmentation(annotation.get("segmentation"), size)
            except MaskCodeError as error:
                raise MaskReadError(reference, f"{who}: {error}") from error
            crowd = bool(annotation.get("iscrowd"))
            index = (
                self._ignore
                if crowd and self.crowd == "ignore"
                else self.class_of(self._categories[category], reference)
            )
            area = int(mask.sum()) if self.overlap == "smallest" else 0
            parts.append(((not crowd, -area, place), index, mask))
        return self.paint(size, [(index, mask) for _, index, mask in sorted(parts, key=lambda part: part[0])])

    def bind(self, root: Path, names: Sequence[str], ignore_index: int) -> None:
        self.load(root)
        super().bind(root, names, ignore_index)
