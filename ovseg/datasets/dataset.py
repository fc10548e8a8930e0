"""The one data set class: photos in a folder, label maps in another, and what the benchmark says about labels."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from mmengine.dataset import BaseDataset

from ovseg.datasets.errors import DatasetNotFound, SampleError
from ovseg.datasets.transforms import PackInputs
from ovseg.registry import DATASETS

CLASSES_DIR = Path(__file__).parent / "classes"


def load_class_names(source: str | Path | Sequence[str]) -> tuple[str, ...]:
    """Class names of a data set.

    Args:
        source: the names themselves, the name of a packaged list (``ovseg/datasets/classes/*.txt``, e.g. ``'voc21'``),
            or a text file with one name per line.

    Raises:
        ValueError: if there is no such list.

    >>> load_class_names("voc21")[:3]
    ('background', 'aeroplane', 'bicycle')
    """
    if not isinstance(source, str | Path):
        return tuple(source)
    packaged = CLASSES_DIR / f"{source}.txt"
    path = packaged if packaged.is_file() else Path(source)
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in CLASSES_DIR.glob("*.txt") if not p.stem.endswith("_ids")))
        raise ValueError(f"no class list {str(source)!r}: neither a file nor one of the packaged lists {known}")
    return tuple(line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip())


@DATASETS.register_module()
class SegmentationDataset(BaseDataset):
    """Photos with label maps in the directory layouts of the official benchmarks.

    Args:
        classes: see :func:`load_class_names`; may be given as ``metainfo=dict(classes=...)`` instead.
        data_root: folder that ``img_dir``, ``mask_dir`` and ``split`` are relative to.
        img_dir, mask_dir: folders of photos and label maps; sub-folders are looked through. ``mask_dir=None``: no
            labels (the pipeline must then have no ``LoadMask``).
        img_suffix: ends of photo names, one or several; what is left is the sample's name.
        mask_suffix: the label map of a sample is ``mask_dir/name + mask_suffix``.
        split: text file with one sample name per line; ``None``: every photo of the folder, sorted.
        reduce_zero_label: label 0 is ignored and k means class k - 1.
        ignore_index: label that is not evaluated: 255; 65535 where there are more than 255 classes.
        label_map: ``{label in the file: class or ignore index}``, applied first.
        benchmark: name in :data:`ovseg.datasets.benchmarks.BENCHMARKS`, for the advice in error messages.
        on_error: ``'record'``: a sample that cannot be read travels as ``inputs=None`` with the reason in its metainfo
            ``error``, and the test loop lists it; ``'raise'``: it is an error.
        pipeline, metainfo, indices, serialize_data, test_mode, lazy_init: as in MMEngine's ``BaseDataset``.

    Raises:
        DatasetNotFound: when a folder or the split file is missing, or holds none of the samples; says how to get it.
        ValueError: for settings that contradict each other.
    """

    def __init__(
        self,
        classes: str | Sequence[str] | None = None,
        data_root: str = "",
        img_dir: str = "images",
        mask_dir: str | None = "masks",
        img_suffix: str | Sequence[str] = ".jpg",
        mask_suffix: str = ".png",
        split: str | None = None,
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
        classes = classes if classes is not None else metainfo.get("classes")
        if classes is None:
            raise ValueError("SegmentationDataset needs class names: `classes` or `metainfo=dict(classes=...)`")
        if on_error not in ("record", "raise"):
            raise ValueError(f"on_error={on_error!r}; it is 'record' or 'raise'")
        metainfo["classes"] = load_class_names(classes)
        if ignore_index < len(metainfo["classes"]):
            raise ValueError(
                f"ignore_index {ignore_index} is also a class index of {len(metainfo['classes'])} classes; "
                "use 65535 with 16-bit label maps"
            )
        self.root = Path(data_root)
        self.img_dir, self.mask_dir, self.split = img_dir, mask_dir, split
        self.img_suffixes = (img_suffix,) if isinstance(img_suffix, str) else tuple(img_suffix)
        self.mask_suffix = mask_suffix
        self.benchmark, self.on_error = benchmark, on_error
        self.label_map = {int(k): int(v) for k, v in label_map.items()} if label_map else None
        super().__init__(
            ann_file="",
            metainfo=metainfo,
            data_root="",
            data_prefix={},
            indices=indices,
            serialize_data=serialize_data,
            pipeline=list(pipeline),
            test_mode=test_mode,
            lazy_init=lazy_init,
        )
        # not through MMEngine, which takes every text among the metainfo for the name of a file
        self._metainfo.update(ignore_index=ignore_index, reduce_zero_label=reduce_zero_label, benchmark=benchmark)

    def load_data_list(self) -> list[dict]:
        """Samples in the order of the split file, or sorted by name.

        Raises:
            DatasetNotFound: see the class.
        """
        folder = self._existing(self.img_dir, "photos")
        masks = self._existing(self.mask_dir, "label maps") if self.mask_dir is not None else None
        photos = self._photos(folder)
        if self.split is None:
            names = sorted(photos)
        else:
            lines = self._existing(self.split, "split file").read_text(encoding="utf-8").splitlines()
            names = [line.strip() for line in lines if line.strip()]
        if not any(name in photos for name in names):
            listed = f" of the {len(names)} names in {self.root / self.split}" if self.split else ""
            raise DatasetNotFound(self._advice(f"{folder} holds no photo *{' / *'.join(self.img_suffixes)}{listed}"))
        # A photo that is listed but missing stays in the list: reading it fails, and is recorded, by name.
        return [
            dict(
                name=name,
                img_path=str(photos.get(name, folder / f"{name}{self.img_suffixes[0]}")),
                seg_map_path=str(masks / f"{name}{self.mask_suffix}") if masks is not None else None,
            )
            for name in names
        ]

    def get_data_info(self, idx: int) -> dict:
        """The sample's paths and index with what ``LoadMask`` must know of the data set."""
        return {
            **super().get_data_info(idx),
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

    def _photos(self, folder: Path) -> dict[str, Path]:
        """``{name relative to the folder, without suffix: path}``; suffixes match in any case."""
        suffixes = tuple(s.lower() for s in self.img_suffixes)
        found: dict[str, Path] = {}
        for path in sorted(folder.rglob("*")):
            lower = path.name.lower()
            hidden = lower.startswith(".")  # parts of killed conversions, macOS' companions of copied files
            suffix = None if hidden else next((s for s in suffixes if lower.endswith(s)), None)
            if suffix is not None:
                relative = path.relative_to(folder).as_posix()
                found.setdefault(relative[: len(relative) - len(suffix)], path)
        return found

    def _existing(self, relative: str, what: str) -> Path:
        path = self.root / relative
        if not path.exists():
            raise DatasetNotFound(self._advice(f"{what} expected at {path}, which does not exist"))
        return path

    def _advice(self, fault: str) -> str:
        from ovseg.datasets.benchmarks import BENCHMARKS

        benchmark = BENCHMARKS.get(self.benchmark or "")
        if benchmark is None:
            return f"data set not found: {fault}. Check data_root, img_dir, mask_dir and split in the config."
        return f"{benchmark.title} not found: {fault}. {benchmark.how_to_get()}"
