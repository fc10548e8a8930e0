"""Formats of annotation tools: LabelMe's JSON, CVAT's XML, GeoJSON."""

from __future__ import annotations

import base64
import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ovseg.datasets.io import read_mask
from ovseg.polygons import area, fill, join_holes, outlines
from ovseg.results.images import encode_png
from ovseg.rle import MaskCodeError, check_polygon, check_size

Transform = tuple[float, float, float, float, float, float]


def geojson(
    labels: np.ndarray, names: Sequence[str], transform: Transform | None = None, confidence: np.ndarray | None = None
) -> dict[str, object]:
    """A FeatureCollection (RFC 7946) with one MultiPolygon per class, holes included.

    Args:
        labels: ``[H, W]`` class indices.
        names: one name per class.
        transform: ``(a, b, c, d, e, f)`` of an affine map from pixels to coordinates, ``X = a x + b y + c`` and
            ``Y = d x + e y + f`` (as rasterio's); ``None``: pixels, y downwards.
        confidence: ``[H, W]`` probabilities; their mean becomes a property.
    """
    features = []
    for index in np.unique(labels):
        mask = labels == index
        properties = {"name": names[index], "class": int(index), "pixels": int(mask.sum())}
        if confidence is not None:
            properties["confidence"] = float(confidence[mask].mean())
        polygons = [[_closed(ring, i == 0, transform) for i, ring in enumerate(rings)] for rings in outlines(mask)]
        geometry = {"type": "MultiPolygon", "coordinates": polygons}
        features.append({"type": "Feature", "properties": properties, "geometry": geometry})
    return {"type": "FeatureCollection", "features": features}


def _closed(ring: np.ndarray, outer: bool, transform: Transform | None) -> list[list[float]]:
    """The first point repeated; outer rings counterclockwise, holes clockwise (RFC 7946, 3.1.6)."""
    if transform is not None:
        a, b, c, d, e, f = transform
        ring = np.stack([a * ring[:, 0] + b * ring[:, 1] + c, d * ring[:, 0] + e * ring[:, 1] + f], axis=1)
    if (area(ring) > 0) != outer:
        ring = ring[::-1]
    return [*ring.tolist(), ring[0].tolist()]


def labels_from_geojson(
    collection: Mapping[str, Any], size: tuple[int, int], names: Sequence[str]
) -> tuple[np.ndarray, np.ndarray]:
    """Labels ``[H, W]`` uint16 of :func:`geojson` in pixels, and the bool map of what it covers.

    Raises:
        ValueError: for another kind of file, another geometry or an unknown class.
        MaskCodeError: for damaged polygons.
    """
    if not isinstance(collection, Mapping) or collection.get("type") != "FeatureCollection":
        raise ValueError("a GeoJSON FeatureCollection is needed")
    labels, covered = np.zeros(check_size(*size), np.uint16), np.zeros(size, bool)
    for number, feature in enumerate(collection.get("features", ())):
        name = feature.get("properties", {}).get("name")
        if name not in names:
            raise ValueError(f"feature {number} has the name {name!r}, which is not among the {len(names)} names")
        geometry = feature.get("geometry", {})
        polygons = {"MultiPolygon": geometry.get("coordinates"), "Polygon": [geometry.get("coordinates")]}
        if geometry.get("type") not in polygons:
            raise ValueError(f"feature {number} is a {geometry.get('type')!r}; Polygon and MultiPolygon are read")
        for rings in polygons[geometry["type"]]:
            mask = fill([np.asarray(ring, np.float64)[:-1] for ring in rings], size)
            labels[mask], covered = names.index(name), covered | mask
    return labels, covered


def labelme(labels: np.ndarray, names: Sequence[str], image_path: str, masks: bool = False) -> dict[str, object]:
    """LabelMe's JSON (version 5): polygons, or its exact shape type ``mask``.

    Args:
        labels: ``[H, W]`` class indices.
        names: one name per class.
        image_path: of the photo, as LabelMe shall find it from the JSON file.
        masks: one shape per class of type ``mask`` (a PNG in its box); ``False``: polygons, one per connected part,
            with holes hung on the outline by a cut.
    """
    shapes: list[dict[str, object]] = []
    for index in np.unique(labels):
        mask = labels == index
        shared = {"label": names[index], "group_id": int(index), "description": "", "flags": {}}
        if masks:
            rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
            (y0, y1), (x0, x1) = (int(rows[0]), int(rows[-1])), (int(columns[0]), int(columns[-1]))
            box = mask[y0 : y1 + 1, x0 : x1 + 1]
            points = [[float(x0), float(y0)], [float(x1), float(y1)]]
            shapes.append(
                {
                    **shared,
                    "shape_type": "mask",
                    "points": points,
                    "mask": base64.b64encode(encode_png(box.astype(np.uint8) * 255)).decode("ascii"),
                }
            )
            continue
        for rings in outlines(mask):
            shapes.append({**shared, "shape_type": "polygon", "points": join_holes(rings).tolist(), "mask": None})
    return {
        "version": "5.5.0",
        "flags": {},
        "shapes": shapes,
        "imagePath": image_path,
        "imageData": None,
        "imageHeight": int(labels.shape[0]),
        "imageWidth": int(labels.shape[1]),
    }


def labels_from_labelme(document: Mapping[str, Any], names: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Labels ``[H, W]`` uint16 of LabelMe's polygons and masks, later shapes over earlier ones, and what they cover.

    Raises:
        ValueError: for a document without size or shapes, another shape type, or an unknown class.
        MaskCodeError: for damaged shapes.
    """
    if not isinstance(document, Mapping) or not isinstance(document.get("shapes"), list):
        raise ValueError("a LabelMe file is a JSON object with a list of shapes")
    size = check_size(document.get("imageHeight"), document.get("imageWidth"))
    labels, covered = np.zeros(size, np.uint16), np.zeros(size, bool)
    for number, shape in enumerate(document["shapes"]):
        if shape.get("label") not in names:
            raise ValueError(f"shape {number} has the label {shape.get('label')!r}, which is not among the names")
        kind = shape.get("shape_type")
        if kind == "polygon":
            points = check_polygon(np.asarray(shape["points"], np.float64).ravel(), size)
            mask = fill([points], size)
        elif kind == "mask":
            mask = _placed(shape, size)
        else:
            raise ValueError(f"shape {number} is a {kind!r}; polygon and mask are read")
        labels[mask], covered = names.index(shape["label"]), covered | mask
    return labels, covered


def _placed(shape: Mapping[str, Any], size: tuple[int, int]) -> np.ndarray:
    (x, y), _ = shape["points"]
    x, y = int(x), int(y)
    try:
        box = read_mask(base64.b64decode(shape["mask"], validate=True)) > 0
    except (ValueError, TypeError) as error:
        raise MaskCodeError(f"the mask of {shape.get('label')!r} is no PNG: {error}") from error
    height, width = box.shape
    if x < 0 or y < 0 or y + height > size[0] or x + width > size[1]:
        raise MaskCodeError(f"a mask of {width} x {height} at ({x}, {y}) lies outside of the photo")
    mask = np.zeros(size, bool)
    mask[y : y + height, x : x + width] = box
    return mask


def cvat(labels: np.ndarray, names: Sequence[str], image_name: str) -> str:
    """CVAT's XML "CVAT for images 1.1" with one exact mask per class.

    A mask's ``rle`` counts pixels of 0 and 1 in turn, beginning with 0, along the rows of its box.
    """
    root = ElementTree.Element("annotations")
    ElementTree.SubElement(root, "version").text = "1.1"
    task = ElementTree.SubElement(ElementTree.SubElement(root, "meta"), "task")
    listed = ElementTree.SubElement(task, "labels")
    for name in names:
        ElementTree.SubElement(ElementTree.SubElement(listed, "label"), "name").text = name
    height, width = labels.shape
    image = ElementTree.SubElement(root, "image", id="0", name=image_name, width=str(width), height=str(height))
    for index in np.unique(labels):
        mask = labels == index
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        box = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        flat = np.concatenate([[False], box.ravel()])
        borders = np.flatnonzero(flat[1:] != flat[:-1])
        runs = np.diff(np.concatenate([[0], borders, [box.size]]))
        ElementTree.SubElement(
            image,
            "mask",
            label=names[index],
            source="auto",
            occluded="0",
            rle=", ".join(map(str, runs.tolist())),
            left=str(columns[0]),
            top=str(rows[0]),
            width=str(box.shape[1]),
            height=str(box.shape[0]),
            z_order="0",
        )
    ElementTree.indent(root)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ElementTree.tostring(root, encoding="unicode") + "\n"


def labels_from_cvat(text: str, names: Sequence[str], image_name: str | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Labels ``[H, W]`` uint16 of one image of a CVAT file (masks and polygons), and what they cover.

    Args:
        text: the XML.
        names: one name per class.
        image_name: which image; ``None``: the only one.

    Raises:
        ValueError: for a file that is not CVAT's, an image that is not there, or an unknown class.
        MaskCodeError: for damaged masks.
    """
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise ValueError("this XML declares entities, which CVAT's files never do; it is not read")
    try:
        root = ElementTree.fromstring(text)
    except ElementTree.ParseError as error:
        raise ValueError(f"no XML of CVAT: {error}") from error
    images = [node for node in root.iter("image") if image_name in (None, node.get("name"))]
    if len(images) != 1:
        raise ValueError(f"{len(images)} images {image_name or ''} in the CVAT file; give the name of one")
    image = images[0]
    size = check_size(_number(image, "height"), _number(image, "width"))
    labels, covered = np.zeros(size, np.uint16), np.zeros(size, bool)
    for node in image:
        if node.tag not in ("mask", "polygon"):
            continue
        if node.get("label") not in names:
            raise ValueError(f"a {node.tag} has the label {node.get('label')!r}, which is not among the names")
        mask = _cvat_mask(node, size) if node.tag == "mask" else fill([_cvat_points(node)], size)
        labels[mask], covered = names.index(node.get("label")), covered | mask
    return labels, covered


def _cvat_mask(node: ElementTree.Element, size: tuple[int, int]) -> np.ndarray:
    x, y, width, height = (_number(node, key) for key in ("left", "top", "width", "height"))
    if min(x, y) < 0 or min(width, height) < 1 or y + height > size[0] or x + width > size[1]:
        raise MaskCodeError(f"a mask of {width} x {height} at ({x}, {y}) lies outside of {size[1]} x {size[0]} pixels")
    try:
        runs = np.array([int(run) for run in node.get("rle", "").split(",")], np.int64)
    except (ValueError, OverflowError):
        raise MaskCodeError(f"the rle of a mask of {node.get('label')!r} is no list of whole numbers") from None
    if (runs < 0).any() or (runs > width * height).any() or int(runs.sum()) != width * height:
        raise MaskCodeError(f"the runs of a mask of {node.get('label')!r} do not fill its {width} x {height} pixels")
    mask = np.zeros(size, bool)
    values = np.arange(len(runs)) % 2 == 1
    mask[y : y + height, x : x + width] = np.repeat(values, runs).reshape(height, width)
    return mask


def _cvat_points(node: ElementTree.Element) -> np.ndarray:
    try:
        return np.array([[float(v) for v in pair.split(",")] for pair in node.get("points", "").split(";")])
    except ValueError:
        raise MaskCodeError(f"the points of a polygon of {node.get('label')!r} are no pairs of numbers") from None


def _number(node: ElementTree.Element, key: str) -> int:
    try:
        return int(node.get(key, ""))
    except ValueError:
        raise MaskCodeError(f"{node.tag} has {key} {node.get(key)!r}; a whole number is needed") from None
