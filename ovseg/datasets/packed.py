"""Photos with their label maps in files that hold many: webdataset's tars, parquet and arrow, as a data set."""

from __future__ import annotations

import os
import posixpath
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from ovseg.datasets.dataset import SegmentationDataset
from ovseg.datasets.errors import DatasetNotFound, MaskReadError
from ovseg.datasets.folder import absolute, colour_masks, ignore_index_of, names_of
from ovseg.datasets.io import mask_source
from ovseg.datasets.places import Place, last_name, open_table
from ovseg.datasets.sources import (
    IMAGE_COLUMNS,
    MASK_COLUMNS,
    MASK_ENDINGS,
    PHOTO_ENDINGS,
    TARS,
    Photo,
    braces,
    choose_column,
    is_of,
    photo_suffixes,
    picture_columns,
    plain_ending,
    shown,
    source_files,
    source_kind,
    table_rows,
    tar_samples,
    utf8_name,
)
from ovseg.datasets.tables import TABLES
from ovseg.errors import SetupError
from ovseg.registry import DATASETS


@dataclass(frozen=True, slots=True)
class Pair:
    """A sample of a source that holds photos with their label maps.

    Attributes:
        name: of the sample, relative, without ending.
        photo, mask: each called by the file it lies in and its place there; ``None``: there is none.
    """

    name: str
    photo: Photo | None
    mask: Photo | None


def list_pairs(
    source: str, image: str | None = None, mask: str | None = None, key: str | None = None
) -> tuple[list[Pair], list[str]]:
    """The samples of tar shards or tables that hold photos with their label maps; nothing but names is kept of them.

    Args:
        source: see :func:`list_source`; tars in webdataset's layout, parquet or arrow files.
        image, mask: columns of the pictures, or in tars what follows the sample's name (``seg.png``); ``None``: found.
        key: column that names the samples; ``None``: the file and the number of the row.

    Returns:
        samples in the order of the source, and what was left out, a line each.

    Raises:
        SetupError: for a source that holds no such samples, that is unclear or cannot be read.
    """
    files = list(dict.fromkeys(part for pattern in braces(source) for part in source_files(pattern)))
    kind, notes = source_kind(source, files), []
    if kind == "tar":
        pairs = [pair for f in files if is_of(f[1], TARS) for pair in _pairs_of_tar(*f, image, mask)]
        empty = sum(pair.photo is None and pair.mask is None for pair in pairs)
        if empty:
            notes.append(f"{shown(source)}: {empty} samples have neither a photo nor a label map and are left out")
            pairs = [pair for pair in pairs if pair.photo is not None or pair.mask is not None]
        if pairs and not any(pair.photo is not None and pair.mask is not None for pair in pairs):
            raise SetupError(
                f"no sample of {shown(source)} has a photo and a label map, e.g. {pairs[0].name}: in webdataset's "
                "tars the two follow each other and share their name up to the first dot (a.jpg, a.seg.png). Name "
                "their endings with --image and --mask; a tar of folders is unpacked first"
            )
    elif kind == "parquet":
        pairs = [pair for f in files if is_of(f[1], TABLES) for pair in _pairs_of_table(*f, image, mask, key)]
    else:
        raise SetupError(f"{shown(source)} holds no tar, parquet or arrow files; a folder is given by --images")
    if not pairs:
        raise SetupError(f"{shown(source)} holds no samples")
    return _told_apart(pairs, source, key, notes), notes


def _pairs_of_tar(root: str, path: str, name: str, image: str | None, mask: str | None) -> Iterator[Pair]:
    photos = [suffix[1:] for suffix in sorted(photo_suffixes())] if image is None else [plain_ending(image)]
    photos.sort(key=lambda ending: PHOTO_ENDINGS.index(ending) if ending in PHOTO_ENDINGS else len(PHOTO_ENDINGS))
    masks = MASK_ENDINGS if mask is None else (plain_ending(mask),)
    for called, parts in tar_samples(root, path, name):
        there = dict(reversed(parts))  # of two files of one name, the first
        label = next((ending for ending in masks if ending in there), None)
        photo = next((ending for ending in photos if ending in there and ending != label), None)
        if label is None and mask is None and photo not in (None, "png") and "png" in there:
            label = "png"  # 000.jpg with 000.png
        yield Pair(called, there.get(photo or ""), there.get(label or ""))


def _pairs_of_table(
    root: str, path: str, name: str, image: str | None, mask: str | None, key: str | None
) -> Iterator[Pair]:
    table = open_table(root, path)
    able = picture_columns(table.schema)
    photo = choose_column([c for c in able if c != mask], path, image, IMAGE_COLUMNS, "photos", "--image")
    label = choose_column([c for c in able if c != photo], path, mask, MASK_COLUMNS, "label maps", "--mask")
    stem = posixpath.splitext(name)[0]
    for row, called in table_rows(table, path, key):
        parts = (Photo(f"{name}, row {row}, {c}", Place(path, root, row=row, column=c)) for c in (photo, label))
        yield Pair(f"{stem}/{row:08d}" if called is None else str(called), *parts)


def _told_apart(pairs: list[Pair], source: str, key: str | None, notes: list[str]) -> list[Pair]:
    """Samples with names that differ and that may be names of files below a folder."""
    double = [name for name, n in Counter(pair.name for pair in pairs).items() if n > 1]
    if double and key is not None:
        raise SetupError(f"{double[0]!r} names several samples of {shown(source)}: give another --key, or none")
    if double:
        notes.append(f"{shown(source)}: {len(double)} names occur in several tars, all are told with their tar's name")
        pairs = [Pair(f"{_tar_of(pair)}/{pair.name}", pair.photo, pair.mask) for pair in pairs]
        twice = next((name for name, n in Counter(pair.name for pair in pairs).items() if n > 1), None)
        if twice is not None:
            raise SetupError(f"{twice!r} names several samples of one tar: files of a sample must follow each other")
    safe = []
    for pair in pairs:
        try:
            safe.append(Pair(safe_name(utf8_name(pair.name)), pair.photo, pair.mask))
        except ValueError as error:
            raise SetupError(f"{shown(source)}: sample {pair.name!r}: {error}") from error
    return safe


def _tar_of(pair: Pair) -> str:
    place = (pair.photo or pair.mask).place
    return posixpath.splitext(last_name(place.path))[0]


def safe_name(name: str) -> str:
    """A sample's name as a relative path.

    Raises:
        ValueError: for one that leads out of the folder.
    """
    plain = name.replace("\\", "/").removeprefix("./")
    parts = plain.split("/")
    if not plain or plain.startswith("/") or ":" in parts[0] or any(part in ("", ".", "..") for part in parts):
        raise ValueError("its name is no file's name below a folder")
    return plain


@DATASETS.register_module()
class PackedDataset(SegmentationDataset):
    """Photos with label maps in webdataset's tars, parquet or arrow files (Hugging Face), read where they lie.

    Of each sample, only where its bytes are is kept; they are read when the sample is asked for. A photo, label map or
    group of rows that is damaged or not there is a failed sample, listed by file and place; a damaged tar or table as a
    whole is an error.

    Args:
        source: file, folder, glob or address, see :func:`ovseg.datasets.sources.list_source`.
        classes: see :func:`ovseg.datasets.load_class_names`.
        data_root: folder that ``source`` and ``split`` are relative to; nothing for addresses.
        image, mask: columns of the pictures, or in tars what follows the sample's name (``seg.png``); ``None``: found.
        key: column that names the samples; ``None``: the file and the number of the row.
        split: text file with one sample name per line; ``None``: every sample, in the order of the source.
        annotations: ``dict(type="ColourMasks", ...)`` where label maps are in colours.
        reduce_zero_label, ignore_index, label_map, benchmark, on_error: see :class:`SegmentationDataset`.
        pipeline, metainfo, indices, serialize_data, test_mode, lazy_init: see :class:`SegmentationDataset`.

    Raises:
        DatasetNotFound: for a source or split file that is missing, unreadable, unclear, or holds none of the samples.
        ValueError: for settings that contradict each other.
    """

    def __init__(
        self,
        source: str,
        classes: str | Sequence[str] | None = None,
        data_root: str = "",
        image: str | None = None,
        mask: str | None = None,
        key: str | None = None,
        split: str | None = None,
        annotations: Mapping | None = None,
        reduce_zero_label: bool = False,
        ignore_index: int = 255,
        label_map: Mapping[int, int] | None = None,
        benchmark: str | None = None,
        on_error: str = "record",
        pipeline: Sequence[dict | Callable] = (),
        metainfo: dict | None = None,
        indices: int | Sequence[int] | None = None,
        serialize_data: bool = False,
        test_mode: bool = True,
        lazy_init: bool = False,
    ) -> None:
        if annotations is not None and str(annotations.get("type")).rpartition(".")[2] != "ColourMasks":
            raise ValueError(f"annotations={dict(annotations)}: of packed label maps, only ColourMasks can be read")
        self.source = str(source)
        self.image, self.mask, self.key = image, mask, key
        super().__init__(
            classes,
            data_root,
            img_dir="",
            mask_dir=None,
            split=split,
            annotations=annotations,
            reduce_zero_label=reduce_zero_label,
            ignore_index=ignore_index,
            label_map=label_map,
            benchmark=benchmark,
            on_error=on_error,
            pipeline=pipeline,
            metainfo=metainfo,
            indices=indices,
            serialize_data=serialize_data,
            test_mode=test_mode,
            lazy_init=lazy_init,
        )

    @property
    def title(self) -> str:
        return shown(self._address)

    @property
    def folders(self) -> tuple[Path, ...]:
        return () if "://" in self._address else (Path(self._address),)

    @property
    def _address(self) -> str:
        return self.source if "://" in self.source else os.path.join(self.root, self.source)

    def load_data_list(self) -> list[dict]:
        """Samples in the order of the split file, or of the source.

        Raises:
            DatasetNotFound: see the class.
        """
        try:
            pairs, notes = list_pairs(self._address, self.image, self.mask, self.key)
        except SetupError as error:
            raise DatasetNotFound(self._advice(str(error))) from error
        for note in notes:
            self._tell("other-ending", note, wrong=False)
        alone = [pair.mask for pair in pairs if pair.photo is None]
        if alone:
            told = f"{self.title}: {len(alone)} label maps have no photo and are left out, e.g. {alone[0].name}"
            self._tell("mask-without-photo", told, [Path(mask.name) for mask in alone])
        by_name = {pair.name: pair for pair in pairs if pair.photo is not None}
        names = list(by_name) if self.split is None else self._listed({name: Path(name) for name in by_name})
        if not any(name in by_name for name in names):
            raise DatasetNotFound(self._advice(f"{self.title} holds none of the names in {self.root / self.split}"))
        for note in self.notes:
            warnings.warn(note, stacklevel=6)
        return [self._sample(name, by_name.get(name)) for name in names]

    def _sample(self, name: str, pair: Pair | None) -> dict:
        """A sample's names for people and its places; a photo that only the split has stays, and fails by name."""
        if pair is None:
            return dict(name=name, img_path=f"{self.title}: {name}, which the split names", seg_map_path=None)
        sample = dict(name=name, img_path=pair.photo.name, photo_place=pair.photo.place, seg_map_path=None)
        if pair.mask is not None:
            sample.update(seg_map_path=pair.mask.name, mask_place=pair.mask.place)
        return sample

    def get_data_info(self, idx: int) -> dict:
        """The sample's places and index with what ``LoadMask`` must know of the data set."""
        info = super().get_data_info(idx)
        info.pop("label_digest", None)
        if self.annotations is not None:
            info["read_labels"] = partial(self._read_coloured, info)
        return info

    def _read_coloured(self, info: Mapping[str, object], reference: str) -> np.ndarray:
        try:
            return self.annotations.read(mask_source(info))
        except MaskReadError as error:  # bytes do not know where they come from
            raise MaskReadError(reference, error.reason) from error


def packed_dataset(
    source: str,
    classes: str | Path | Sequence[str] | None = None,
    image: str | None = None,
    mask: str | None = None,
    key: str | None = None,
    split: str | Path | None = None,
    colours: str | Path | None = None,
    reduce_zero_label: bool = False,
    ignore_index: int | None = None,
    label_map: Mapping[int, int] | None = None,
) -> dict[str, object]:
    """Config of a :class:`PackedDataset`, as :func:`ovseg.datasets.folder.folder_dataset` makes one of folders.

    Args:
        source, image, mask, key: see the data set.
        classes: see :func:`ovseg.datasets.load_class_names`; ``None``: as the colours name them.
        split: text file with the names to use; ``None``: all.
        colours: table of colours of label maps that are in colours.
        reduce_zero_label, label_map: see the data set.
        ignore_index: ``None``: 255, or 65535 where there are more than 255 classes.

    Raises:
        ValueError: where there are no class names.
    """
    classes, read_by = absolute(classes), None if colours is None else colour_masks(colours)
    if classes is None:
        classes = names_of(read_by)
    root, inside = _parted(str(source))
    return dict(
        type="PackedDataset",
        source=inside,
        classes=classes,
        data_root=root,  # where this machine keeps them is no part of the config's hash
        image=image,
        mask=mask,
        key=key,
        split=absolute(split),
        annotations=read_by,
        reduce_zero_label=reduce_zero_label,
        ignore_index=ignore_index_of(classes) if ignore_index is None else ignore_index,
        label_map=dict(label_map) if label_map else None,
    )


def _parted(source: str) -> tuple[str, str]:
    """Absolute folder and what is in it; of a pattern, the folder before its first sign."""
    if "://" in source:
        return "", source
    if os.path.lexists(source):
        return os.path.split(os.path.abspath(source))
    parts = Path(source).parts
    first = next((i for i, part in enumerate(parts) if any(sign in part for sign in "*?[{")), len(parts) - 1)
    return os.path.abspath(os.path.join("", *parts[:first])), os.path.join(*parts[first:])
