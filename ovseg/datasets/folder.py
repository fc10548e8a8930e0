"""Settings of a data set that is nothing but a folder of photos and one of label maps."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from PIL import Image

from ovseg.datasets.annotations import read_colour_table
from ovseg.datasets.annotations.base import read_document
from ovseg.datasets.class_names import load_class_names
from ovseg.datasets.dataset import PICTURES
from ovseg.datasets.errors import DatasetNotFound, MaskReadError
from ovseg.datasets.files import list_files
from ovseg.registry import ANNOTATIONS

LABEL_ENDINGS = (".png", ".tif", ".tiff", ".bmp", ".pgm")
_LOOKED_AT = 500  # files from which endings are told


def folder_dataset(
    images: str | Path,
    masks: str | Path,
    classes: str | Path | Sequence[str] | None = None,
    img_suffix: Sequence[str] | None = None,
    mask_suffix: Sequence[str] | None = None,
    split: str | Path | None = None,
    pairs: str | Path | None = None,
    annotations: str | None = None,
    colours: str | Path | None = None,
    unlabelled: str | None = None,
    reduce_zero_label: bool = False,
    ignore_index: int | None = None,
    label_map: Mapping[int, int] | None = None,
) -> dict[str, object]:
    """Config of a :class:`ovseg.datasets.SegmentationDataset` over a folder of photos and one of label maps.

    Args:
        images: folder of photos.
        masks: folder of label maps or of an annotation tool's files, which may be the same; or a COCO file.
        classes: see :func:`ovseg.datasets.load_class_names`; ``None``: as the annotations or the colours name them.
        img_suffix, mask_suffix: what photos and label maps end in after the name that pairs them; ``None``: seen from
            the files. Endings of photos that differ in the file type only are all taken.
        split: text file with the names to use; ``None``: all.
        pairs: text file with a photo and its label map per line.
        annotations: ``'labels'`` (class indices), ``'colours'``, ``'coco'``, ``'labelme'``, ``'supervisely'``;
            ``None``: seen from the files.
        colours: table of colours, see :class:`ovseg.datasets.annotations.ColourMasks`; ``None``: the class file, where
            it has colours.
        unlabelled: see :class:`ovseg.datasets.annotations.Annotations`.
        reduce_zero_label, label_map: see the data set.
        ignore_index: ``None``: 255, or 65535 where there are more than 255 classes.

    Returns:
        ``dict(type="SegmentationDataset", ...)`` with absolute paths, without a pipeline.

    Raises:
        DatasetNotFound: if a folder is missing, or photos and label maps have no names in common.
        ValueError: where it cannot be seen how labels are kept, or there are no class names.
    """
    images, masks = _folder(images, "--images"), Path(os.path.abspath(masks))
    classes = absolute(classes)
    kind = annotations or see_kind(masks, colours)
    read_by = _annotations(kind, masks, colours, classes, unlabelled)
    if kind == "coco":
        seen = (_photo_endings(images), [])
    elif kind in ("labelme", "supervisely"):
        seen = (_photo_endings(images), mask_suffix or ())
    elif pairs is not None:
        seen = (_photo_endings(images), [".png"])
    else:
        masks = _folder(masks, "--masks")
        seen = see_endings(images, masks) if img_suffix is None or mask_suffix is None else ([], [])
    img_suffix, mask_suffix = img_suffix or seen[0], mask_suffix or seen[1]
    if classes is None:
        classes = names_of(read_by)
    root = images if kind == "coco" else Path(os.path.commonpath([images, masks]))
    return dict(
        type="SegmentationDataset",
        classes=classes,
        data_root=str(root),  # where this machine keeps them is no part of the config's hash
        img_dir=os.path.relpath(images, root),
        mask_dir=None if kind == "coco" else os.path.relpath(masks, root),
        img_suffix=list(img_suffix),
        mask_suffix=list(mask_suffix) or ".png",
        split=absolute(split),
        pairs=absolute(pairs),
        annotations=read_by,
        reduce_zero_label=reduce_zero_label,
        ignore_index=ignore_index_of(classes) if ignore_index is None else ignore_index,
        label_map=dict(label_map) if label_map else None,
    )


def ignore_index_of(classes: str | Sequence[str]) -> int:
    """255, or 65535 where that is a class."""
    return 65535 if len(load_class_names(classes)) > 255 else 255


def absolute(path: str | Path | Sequence[str] | None) -> object:
    """Files by their whole path; lists and names of packaged lists as they are."""
    if isinstance(path, str | Path):
        return str(Path(path).resolve()) if Path(path).exists() else str(path)
    return None if path is None else list(path)


def see_kind(masks: Path, colours: str | Path | None) -> str:
    """How labels are kept, by the first files.

    Raises:
        DatasetNotFound: if there is nothing.
        ValueError: for files of several kinds.
    """
    if masks.is_file():
        return "coco"
    files = list_files(_folder(masks, "--masks")).files
    pictures = [p for p in files if p.suffix.lower() in LABEL_ENDINGS]
    documents = [p for p in files if p.suffix.lower() == ".json" and p.name != "meta.json"]
    kinds = {_kind_of_document(p) for p in documents[:5]} - {None}
    if len(kinds) == 1 and not (colours or _are_label_maps(pictures, documents)):
        return kinds.pop()
    if colours is not None or (pictures and _is_coloured(pictures[-1])):
        return "colours"
    return "labels"


def _are_label_maps(pictures: list[Path], documents: list[Path]) -> bool:
    """Whether pictures beside documents are label maps; photos are no pictures of one channel."""
    return len(pictures) >= len(documents) > 0 and not _is_coloured(pictures[-1])


def _kind_of_document(path: Path) -> str | None:
    try:
        document = read_document(path)
    except MaskReadError:
        return None
    if not isinstance(document, Mapping):
        return None
    if "shapes" in document:
        return "labelme"
    if "objects" in document and "size" in document:
        return "supervisely"
    return None


def _is_coloured(path: Path) -> bool:
    try:
        with Image.open(path) as image:
            return image.mode in ("RGB", "RGBA")
    except OSError:
        return False


def _annotations(
    kind: str, masks: Path, colours: str | Path | None, classes: object, unlabelled: str | None
) -> dict[str, object] | None:
    options = {} if unlabelled is None else {"unlabelled": unlabelled}
    if kind == "labels":
        return None
    if kind == "coco":
        return dict(type="CocoAnnotations", file=str(masks), **options)
    if kind in ("labelme", "supervisely"):
        return dict(type="LabelMeFiles" if kind == "labelme" else "SuperviselyFiles", **options)
    if kind != "colours":
        raise ValueError(f"annotations {kind!r}; there are labels, colours, coco, labelme, supervisely")
    if colours is None:
        try:
            read_colour_table(classes)
        except (TypeError, ValueError, OSError):
            raise ValueError(
                f"label maps in {masks} are in colours; give the table with --colours (CVAT's labelmap.txt, a CSV of "
                "name,r,g,b, or voc)"
            ) from None
        colours = classes
    return colour_masks(colours)


def colour_masks(colours: str | Path) -> dict[str, object]:
    """Config of :class:`ovseg.datasets.annotations.ColourMasks` with a table."""
    return dict(type="ColourMasks", table=str(colours) if str(colours) == "voc" else absolute(colours))


def names_of(annotations: Mapping[str, object] | None) -> list[str]:
    """Class names that annotations give.

    Raises:
        ValueError: where they give none.
    """
    built = ANNOTATIONS.build(dict(annotations)) if annotations is not None else None
    if built is not None:
        built.load(Path())
    names = built.class_names() if built is not None else None
    if names is None:
        raise ValueError("class names are missing: give --classes, a file with one name per line")
    return list(names)


def _photo_endings(images: Path) -> list[str]:
    endings = Counter(p.suffix.lower() for p in list_files(images).files if p.suffix.lower() in PICTURES)
    if not endings:
        raise DatasetNotFound(f"{images} holds no photos")
    return [ending for ending, _ in endings.most_common()]


def _folder(path: str | Path, what: str) -> Path:
    path = Path(path)
    if not path.is_dir():
        raise DatasetNotFound(f"{what} {path} {'is a file' if path.exists() else 'does not exist'}; give a folder")
    return Path(os.path.abspath(path))


def see_endings(images: Path, masks: Path) -> tuple[list[str], list[str]]:
    """What photos and label maps end in, so that what is left of their names is the same.

    Raises:
        DatasetNotFound: where that cannot be seen.
    """
    photos = [p.relative_to(images) for p in list_files(images).files if p.suffix.lower() in PICTURES]
    maps = [p.relative_to(masks) for p in list_files(masks).files if p.suffix.lower() in LABEL_ENDINGS]
    if images == masks:
        photos, maps = _apart(photos, maps)
    if not photos or not maps:
        what, where = ("photos", images) if not photos else ("label maps", masks)
        raise DatasetNotFound(f"{where} holds no {what}; name what they end in with --img-suffix and --mask-suffix")
    stems = [{_stem(p) for p in paths} for paths in (photos, maps)]
    tails = [{""}, {""}]
    if len(stems[0] & stems[1]) < len(stems[1]) / 2:
        tails = [_tails(stems[0], stems[1]), _tails(stems[1], stems[0])]
    best = max(
        ((a, b) for a in tails[0] for b in tails[1]),
        key=lambda pair: (len(_cut(stems[0], pair[0]) & _cut(stems[1], pair[1])), -len(pair[0]) - len(pair[1])),
    )
    if not _cut(stems[0], best[0]) & _cut(stems[1], best[1]):
        raise DatasetNotFound(
            f"photos such as {photos[0]} and label maps such as {maps[0]} have no names in common; name what they end "
            "in with --img-suffix and --mask-suffix (suffix _gt.png: photo a.jpg, label map a_gt.png)"
        )
    found = []
    for paths, tail in ((photos, best[0]), (maps, best[1])):
        endings = Counter(p.suffix.lower() for p in paths if _stem(p).endswith(tail))
        found.append([tail + ending for ending, _ in endings.most_common()])
    return found[0], found[1]


def _stem(path: Path) -> str:
    return path.as_posix()[: len(path.as_posix()) - len(path.suffix)]


def _cut(stems: set[str], tail: str) -> set[str]:
    return {stem[: len(stem) - len(tail)] for stem in stems if stem.endswith(tail)}


def _apart(photos: list[Path], maps: list[Path]) -> tuple[list[Path], list[Path]]:
    """Photos and label maps of one folder: ``a.jpg`` beside ``a_mask.png`` or ``a.png``."""
    stems = {_stem(p) for p in photos}
    longer = [p for p in maps if any(_stem(p)[:i] in stems for i in _breaks(_stem(p)))]
    if not longer:
        longer = [p for p in maps if p.suffix.lower() == ".png" and any(q.suffix.lower() != ".png" for q in photos)]
    taken = set(longer)
    return [p for p in photos if p not in taken], longer


def _breaks(stem: str) -> list[int]:
    return [m.start() for m in re.finditer(r"[_\-. ]", stem)]


def _tails(stems: set[str], others: set[str]) -> set[str]:
    """Ends of names, from a ``_``, ``-``, ``.`` or space on, without which they may be names of the other kind."""
    found = Counter({"": 1})
    for stem in sorted(stems)[:_LOOKED_AT]:
        found.update(stem[i:] for i in _breaks(stem) if "/" not in stem[i:])
    likely = {tail for tail, count in found.most_common(20) if count > len(stems) / 4 or len(stems) < 4}
    return likely | {""}
