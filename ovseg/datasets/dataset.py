"""The one data set class: photos in a folder, label maps in another, and what the benchmark says about labels."""

from __future__ import annotations

import re
import warnings
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from mmengine.dataset import BaseDataset

from ovseg.class_files import read_text
from ovseg.datasets.class_names import class_names
from ovseg.datasets.errors import DatasetNotFound, SampleError
from ovseg.datasets.files import Listing, dangling, list_files
from ovseg.datasets.findings import Finding
from ovseg.datasets.pairs import read_pairs
from ovseg.datasets.transforms import PackInputs
from ovseg.registry import ANNOTATIONS, DATASETS, SCOPE, TRANSFORMS, build_component

PICTURES = (".jpg", ".jpeg", ".jfif", ".png", ".bmp", ".webp", ".tif", ".tiff", ".gif", ".ppm", ".pgm", ".jp2", ".avif")
"""Endings of pictures, by which a data set knows what it leaves out."""


@DATASETS.register_module()
class SegmentationDataset(BaseDataset):
    """Photos with label maps in the directory layouts of the official benchmarks.

    Args:
        classes: see :func:`load_class_names`; may be given as ``metainfo=dict(classes=...)`` instead.
        data_root: folder that ``img_dir``, ``mask_dir`` and ``split`` are relative to.
        img_dir, mask_dir: folders of photos and label maps; sub-folders are looked through, linked ones too.
            ``mask_dir=None``: no labels (the pipeline must then have no ``LoadMask``).
        img_suffix: ends of photo names, one or several, in any case; what is left is the sample's name.
        mask_suffix: the label map of a sample is ``mask_dir/name + mask_suffix``; one or several endings, in any case.
        split: text file with one sample name per line; ``None``: every photo of the folder, sorted.
        pairs: text file with a photo and its label map per line (paths below ``img_dir`` and ``mask_dir``, parted by a
            tab, comma or blank), in the place of names that are alike.
        annotations: ``dict(type=...)`` of one of :mod:`ovseg.datasets.annotations`, where label maps are not pictures
            of class indices; then ``classes`` may be left out where its files name them.
        reduce_zero_label: label 0 is ignored and k means class k - 1.
        ignore_index: label that is not evaluated: 255; 65535 where there are more than 255 classes.
        label_map: ``{label in the file: class or ignore index}``, applied first; ``{255: 1}`` for masks of 0 and 255.
        benchmark: name in :data:`ovseg.datasets.benchmarks.BENCHMARKS`, for the advice in error messages.
        on_error: ``'record'``: a sample that cannot be read travels as ``inputs=None`` with the reason in its metainfo
            ``error``, and the test loop lists it; ``'raise'``: it is an error.
        pipeline, metainfo, indices, serialize_data, test_mode, lazy_init: as in MMEngine's ``BaseDataset``.

    Attributes:
        findings: what was left out of the folders and why, see :class:`ovseg.datasets.findings.Finding`.
        notes: their sentences; also given as warnings.

    Raises:
        DatasetNotFound: when a folder or the split file is missing or unreadable, or holds none of the samples; says
            how to get it.
        ValueError: for settings that contradict each other.
    """

    def __init__(
        self,
        classes: str | Sequence[str] | None = None,
        data_root: str = "",
        img_dir: str = "images",
        mask_dir: str | None = "masks",
        img_suffix: str | Sequence[str] = ".jpg",
        mask_suffix: str | Sequence[str] = ".png",
        split: str | None = None,
        pairs: str | None = None,
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
        metainfo = dict(metainfo or {})
        self.annotations = build_component(annotations, ANNOTATIONS) if annotations is not None else None
        classes = classes if classes is not None else metainfo.get("classes")
        if classes is None and self.annotations is not None:
            self.annotations.load(Path(data_root))
            classes = self.annotations.class_names()
        if classes is None:
            raise ValueError("SegmentationDataset needs class names: `classes` or `metainfo=dict(classes=...)`")
        if on_error not in ("record", "raise"):
            raise ValueError(f"on_error={on_error!r}; it is 'record' or 'raise'")
        metainfo["classes"], first = class_names(classes)
        if first == 1 and not reduce_zero_label and not label_map:
            raise ValueError(
                f"{classes}: the classes are numbered from 1, but label 0 is the first class; set "
                "reduce_zero_label=True if 0 in the label maps means unlabelled, or number the classes from 0"
            )
        if ignore_index < len(metainfo["classes"]):
            raise ValueError(
                f"ignore_index {ignore_index} is also a class index of {len(metainfo['classes'])} classes; "
                "use 65535 with 16-bit label maps"
            )
        self.root = Path(data_root)
        self.img_dir, self.mask_dir, self.split, self.pairs = img_dir, mask_dir, split, pairs
        if split is not None and pairs is not None:
            raise ValueError("split and pairs both say which photos to use; give one of them")
        if self.annotations is not None:
            if reduce_zero_label or label_map:
                raise ValueError(
                    "annotations give classes by name: reduce_zero_label and label_map do not go with them"
                )
            self.annotations.bind(self.root, metainfo["classes"], ignore_index)
            mask_suffix = self.annotations.suffixes if mask_suffix == ".png" else mask_suffix
        self.img_suffixes = (img_suffix,) if isinstance(img_suffix, str) else tuple(img_suffix)
        self.mask_suffixes = (mask_suffix,) if isinstance(mask_suffix, str) else tuple(mask_suffix)
        self.benchmark, self.on_error = benchmark, on_error
        self.label_map = _checked_label_map(label_map, len(metainfo["classes"]), ignore_index, reduce_zero_label)
        self.findings: list[Finding] = []
        super().__init__(
            ann_file="",
            metainfo=metainfo,
            data_root="",
            data_prefix={},
            indices=indices,
            serialize_data=serialize_data,
            # in ovseg's own scope, whatever the default one is: a data set works without a runner
            pipeline=[TRANSFORMS.build({"_scope_": SCOPE, **s}) if isinstance(s, Mapping) else s for s in pipeline],
            test_mode=test_mode,
            lazy_init=lazy_init,
        )
        # not through MMEngine, which takes every text among the metainfo for the name of a file
        self._metainfo.update(ignore_index=ignore_index, reduce_zero_label=reduce_zero_label, benchmark=benchmark)

    @property
    def notes(self) -> list[str]:
        """The sentences of :attr:`findings`."""
        return [finding.message for finding in self.findings]

    @property
    def title(self) -> str:
        """What a data set without a name of its own is called."""
        return str(self.root / self.img_dir)

    @property
    def folders(self) -> tuple[Path, ...]:
        """Where its files lie."""
        return tuple(self.root / part for part in (self.img_dir, self.mask_dir) if part is not None)

    def load_data_list(self) -> list[dict]:
        """Samples in the order of the split file, or sorted by name.

        Raises:
            DatasetNotFound: see the class.
        """
        folder = self._existing(self.img_dir, "photos", folder=True)
        in_one_file = self.annotations is not None and not self.annotations.suffixes
        has_folder = self.mask_dir is not None and not in_one_file
        masks = self._existing(self.mask_dir, "label maps", folder=True) if has_folder else None
        listing = self._list(folder)
        photos = self._photos(folder, listing)
        if self.pairs is not None and masks is not None:
            return self._paired(folder, masks)
        maps = self._maps(masks) if masks is not None else {}
        names = sorted(photos) if self.split is None else self._listed(photos)
        if not any(name in photos for name in names):
            listed = f" of the {len(names)} names in {self.root / self.split}" if self.split else ""
            others = Counter(p.suffix.lower() for p in listing.files if p.suffix.lower() in PICTURES)
            instead = f" (there are {_counted(others)}: set img_suffix)" if others and not photos else ""
            raise DatasetNotFound(
                self._advice(f"{folder} holds no photo *{' / *'.join(self.img_suffixes)}{listed}{instead}")
            )
        if self.split is None:
            self._note_left_out(folder, listing, photos)
            if masks is not None:
                self._note_unpaired(masks, maps, photos)
        references = self.annotations.find({name: photos.get(name, folder) for name in names}) if in_one_file else {}
        if in_one_file and self.split is None and self.annotations.unused():
            unused = self.annotations.unused()
            told = (
                f"{len(unused)} images of the annotations have no photo in {folder} and are left out, e.g. {unused[0]}"
            )
            self._tell("mask-without-photo", told)
        for note in self.notes:
            warnings.warn(note, stacklevel=6)  # the caller of DATASETS.build or of the class
        # A photo that is listed but missing stays in the list: reading it fails, and is recorded, by name.
        return [
            dict(
                name=name,
                img_path=str(photos.get(name, folder / f"{name}{self.img_suffixes[0]}")),
                seg_map_path=self._mask_of(masks, maps, name)
                if masks is not None
                else references.get(name, self._lacking(name)),
            )
            for name in names
        ]

    def _lacking(self, name: str) -> str | None:
        """What stands for the entry of a photo that the file of all annotations has not."""
        return None if self.annotations is None else f"{self.annotations}#{name}"

    def _paired(self, folder: Path, masks: Path) -> list[dict]:
        """Samples of the file of pairs, in its order."""
        path = self._existing(self.pairs, "file of pairs")
        try:
            pairs = read_pairs(path)
        except (OSError, ValueError) as error:
            raise DatasetNotFound(self._advice(f"file of pairs: {error}")) from error
        samples = [
            dict(
                name=Path(photo).with_suffix("").as_posix(),
                img_path=str(folder / photo),
                seg_map_path=str(masks / labels),
            )
            for photo, labels in pairs
        ]
        for part, what in (("img_path", "photos"), ("seg_map_path", "label maps")):
            twice = [p for p, count in Counter(sample[part] for sample in samples).items() if count > 1]
            if twice:
                told = f"{path}: {len(twice)} {what} are listed more than once, e.g. {twice[0]}"
                self._tell("listed-twice", told, [Path(p) for p in twice])
        for note in self.notes:
            warnings.warn(note, stacklevel=7)
        return samples

    def get_data_info(self, idx: int) -> dict:
        """The sample's paths and index with what ``LoadMask`` must know of the data set."""
        own = self.annotations
        reading = dict(read_labels=own.read, label_digest=own.digest) if own is not None else {}
        return {
            **super().get_data_info(idx),
            **reading,
            "num_classes": len(self._metainfo["classes"]),
            "ignore_index": self._metainfo["ignore_index"],
            "reduce_zero_label": self._metainfo["reduce_zero_label"],
            "label_map": self.label_map,
        }

    def prepare_data(self, idx: int) -> dict:
        """One sample through the pipeline; a :class:`SampleError` is recorded or raised, as ``on_error`` says."""
        info = self.get_data_info(idx)
        try:
            return self.pipeline(dict(info))
        except SampleError as error:
            packer = next((t for t in self.pipeline.transforms if isinstance(t, PackInputs)), None)
            if self.on_error == "raise" or packer is None:
                raise
            return packer.pack_error(info, error)

    def _list(self, folder: Path) -> Listing:
        try:
            listing = list_files(folder)
        except OSError as error:
            raise DatasetNotFound(self._advice(f"{folder} cannot be looked into: {error.strerror or error}")) from error
        for path, problem in listing.problems.items():
            self._tell("unfollowed", f"{path}: {problem}", [path])
        return listing

    def _tell(self, kind: str, message: str, paths: Sequence[Path] = (), wrong: bool = True) -> None:
        finding = Finding(kind, message, wrong, tuple(map(str, paths)))
        if finding not in self.findings:  # photos and label maps may lie in one folder
            self.findings.append(finding)

    def _photos(self, folder: Path, listing: Listing) -> dict[str, Path]:
        """``{name relative to the folder, without suffix: path}``; suffixes match in any case."""
        found: dict[str, Path] = {}
        doubled = []
        in_masks = self.mask_dir is not None and (self.root / self.mask_dir).resolve() == folder.resolve()
        for path in listing.files:
            suffix = _ending(path, self.img_suffixes)
            if not suffix or (in_masks and _ending(path, self.mask_suffixes) not in (None, *self.img_suffixes)):
                continue
            relative = path.relative_to(folder).as_posix()
            name = relative[: len(relative) - len(suffix)]
            if name in found:
                doubled.append(path)
            found.setdefault(name, path)
        if doubled:
            name = _name(doubled[0].relative_to(folder), self.img_suffixes)
            example = f"{doubled[0].name} ({found[name].name} is used)"
            self._tell(
                "doubled-photo",
                f"{folder}: {len(doubled)} photos left out, whose name another has, e.g. {example}",
                doubled,
            )
        self._note_hidden(folder, listing, self.img_suffixes)
        return found

    def _note_hidden(self, folder: Path, listing: Listing, suffixes: Sequence[str]) -> None:
        hidden = [p for p in listing.hidden if _ending(p, suffixes) or p.is_dir()]
        if hidden:
            told = f"{folder}: {len(hidden)} hidden files or folders left out, e.g. {hidden[0]}"
            self._tell("hidden", told, hidden, wrong=False)

    def _maps(self, folder: Path) -> dict[str, list[Path]]:
        """``{name: label maps with that name}``, the best ending first."""
        found: dict[str, list[tuple[int, bool, Path]]] = {}
        listing = self._list(folder)
        for path in listing.files:
            suffix = _ending(path, self.mask_suffixes)
            if suffix:
                relative = path.relative_to(folder).as_posix()
                exact = relative.endswith(suffix)
                entry = (self.mask_suffixes.index(suffix), not exact, path)
                found.setdefault(relative[: len(relative) - len(suffix)], []).append(entry)
        if (self.root / self.img_dir).resolve() != folder.resolve():
            self._note_hidden(folder, listing, self.mask_suffixes)
        maps = {name: [path for *_, path in sorted(entries)] for name, entries in found.items()}
        doubled = [paths for paths in maps.values() if len(paths) > 1]
        if doubled:
            self._tell(
                "doubled-mask",
                f"{folder}: {len(doubled)} photos have several label maps, e.g. {doubled[0][0].name} (used) and "
                f"{doubled[0][1].name}; remove the others",
                [path for paths in doubled for path in paths],
            )
        return maps

    def _listed(self, photos: Mapping[str, Path]) -> list[str]:
        """The names of the split file; a suffix after the name, or flags in columns behind it (VOC's), do no harm."""
        path = self._existing(self.split, "split file")
        try:
            lines = [line.strip() for line in re.split(r"\r\n|\n|\r", read_text(path))]
        except (OSError, ValueError) as error:
            raise DatasetNotFound(self._advice(f"split file: {error}")) from error
        names = [self._name_of(line, photos) for line in lines if line]
        twice = [name for name, count in Counter(names).items() if count > 1]
        if twice:
            told = f"{path}: {len(twice)} names are listed more than once and count so, e.g. {twice[0]}"
            self._tell("listed-twice", told, [path])
        return names

    def _name_of(self, line: str, photos: Mapping[str, Path]) -> str:
        for text in (line, line.split()[0]):
            for name in (text, text[: len(text) - len(_ending(Path(text), self.img_suffixes) or "")]):
                if name in photos:
                    return name
        return line

    def _mask_of(self, masks: Path, maps: Mapping[str, list[Path]], name: str) -> str:
        """Path of a label map; where there is none, the one that is missing."""
        return str(maps[name][0] if name in maps else masks / f"{name}{self.mask_suffixes[0]}")

    def _note_left_out(self, folder: Path, listing: Listing, photos: Mapping[str, Path]) -> None:
        used = (*self.img_suffixes, *self.mask_suffixes)
        left_out = [p for p in listing.files if p.suffix.lower() in PICTURES and not _ending(p, used)]
        if left_out:
            others = _counted(Counter(p.suffix.lower() for p in left_out))
            told = (
                f"{folder}: {others} left out, which do not end in {' or '.join(self.img_suffixes)}; add their ending "
                "to img_suffix if they are photos"
            )
            self._tell("other-ending", told, left_out)

    def _note_unpaired(self, masks: Path, maps: Mapping[str, list[Path]], photos: Mapping[str, Path]) -> None:
        """Label maps without a photo; a photo without a label map is recorded when it is read."""
        used = set(photos.values())
        alone = sorted(p for name, paths in maps.items() if name not in photos for p in paths if p not in used)
        if alone:
            told = f"{masks}: {len(alone)} label maps have no photo and are left out, e.g. {alone[0].name}"
            self._tell("mask-without-photo", told, alone)

    def _existing(self, relative: str, what: str, folder: bool = False) -> Path:
        path = self.root / relative
        if not path.exists():
            link = next((f"; {p} is {why}" for p in (path, *path.parents) if (why := dangling(p))), "")
            raise DatasetNotFound(self._advice(f"{what} expected at {path}, which does not exist{link}"))
        if folder and not path.is_dir():
            raise DatasetNotFound(self._advice(f"{what} expected in the folder {path}, which is a file"))
        return path

    def _advice(self, fault: str) -> str:
        from ovseg.datasets.benchmarks import BENCHMARKS

        benchmark = BENCHMARKS.get(self.benchmark or "")
        if benchmark is None:
            return f"data set not found: {fault}. Check data_root, img_dir, mask_dir and split in the config."
        return f"{benchmark.title} not found: {fault}. {benchmark.how_to_get()}"


def _name(relative: Path, suffixes: Sequence[str]) -> str:
    text = relative.as_posix()
    return text[: len(text) - len(_ending(relative, suffixes) or "")]


def _ending(path: Path, suffixes: Sequence[str]) -> str | None:
    """That of the suffixes with which a file name ends, in any case; a name is never all suffix."""
    lower = path.name.lower()
    return next((s for s in suffixes if s and lower.endswith(s.lower()) and len(lower) > len(s)), None)


def _counted(endings: Mapping[str, int]) -> str:
    return ", ".join(f"{count} *{ending}" for ending, count in sorted(endings.items()))


def _checked_label_map(
    label_map: Mapping[int, int] | None, classes: int, ignore_index: int, reduce_zero_label: bool
) -> dict[int, int] | None:
    """The label map with integers.

    Raises:
        ValueError: for labels that are no integers, or targets that are neither a class nor the ignore index.
    """
    if not label_map:
        return None
    if not isinstance(label_map, Mapping):
        raise ValueError(f"label_map={label_map!r}; give a mapping of labels to classes, e.g. {{255: 1}}")
    try:
        found = {int(k): int(v) for k, v in label_map.items()}
    except (TypeError, ValueError):
        raise ValueError(f"label_map={dict(label_map)}: labels and classes are integers, e.g. {{255: 1}}") from None
    last = classes - 1 + reduce_zero_label  # zero is taken away after the map
    wrong = [v for v in found.values() if not (0 <= v <= last or v == ignore_index)]
    if wrong:
        raise ValueError(
            f"label_map gives {wrong[0]}, which is neither a class (0 to {last}) nor the ignore index {ignore_index}"
        )
    return found
