"""What travels with every number (the protocol, docs/evaluation.md): one JSON per run, one CSV row per run."""

from __future__ import annotations

import csv
import hashlib
import json
import math
import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

import torch
from filelock import FileLock
from mmengine.config import Config

from ovseg.datasets.benchmarks import BENCHMARKS, Benchmark
from ovseg.datasets.files import atomic_path, write_json
from ovseg.describing import describe
from ovseg.evaluation.confusion import MIOU_RULE, SegSummary

# Where a run writes and how it is started does not change its numbers, and must not change its hash.
_VOLATILE = (
    *("work_dir", "launcher", "default_hooks", "custom_hooks", "visualizer", "log_level", "env_cfg", "test_cfg"),
    "load_from",  # recorded with its own hash
)
_MACHINE = ("data_root", "num_workers", "persistent_workers", "prefetch_factor", "pin_memory")
_ROOT = Path(__file__).resolve().parents[2]
_LIBRARIES = ("torch", "onedl-mmengine", "onedl-mmcv", "onedl-mmsegmentation", "open_clip_torch", "timm", "numpy")
_CSV_NAMES = {"mIoU": "mIoU (union>0)", "mIoU_present": "mIoU_present (gt>0)"}  # the header states the rule


@dataclass
class ResultRow:
    """One evaluation. The order of the attributes is that of the CSV's columns.

    Attributes:
        method: name of the method's config.
        dataset: title of the benchmark, or the folder of the photos.
        mIoU, mIoU_present, aAcc, mAcc: percent, see :data:`ovseg.evaluation.MIOU_RULE`.
        images, skipped: images evaluated, and those that could not be read.
        complete: whether all images of the benchmark were evaluated (no ``--limit``, none skipped).
        short_side, crop, stride: resolution settings in pixels.
        background, threshold: index of the background class and probability below which a pixel is given to it.
        vocabulary, vocabulary_hash, templates: the words and what they are put into.
        weights, weights_sha256, checkpoint, checkpoint_sha256: the model's weights; the checkpoint given on top.
        precision: what CLIP computed in, e.g. ``fp32``, or ``bf16 (auto)`` where a measurement chose it.
        attention, refiners: parts of the method.
        supervision: what the parts were trained on.
        device: name of the processor or GPU; ``processes``: how many worked on it.
        seconds: wall time of the evaluation, resumed parts included.
        peak_rss_mb, peak_cuda_mb: peak memory of the first process, MiB; CUDA as PyTorch allocated it.
        config, config_hash: the config file, and the SHA-256 (16 digits) of all settings that change numbers.
        versions, git_commit, date: what it was run with, and when (UTC).
        model: everything else the model says of itself.
        data: where labels and photos came from and how labels are read; ``fingerprint``: one hash of all these files
            (:func:`ovseg.datasets.fingerprint.dataset_fingerprint`).
    """

    method: str
    dataset: str
    mIoU: float
    mIoU_present: float
    aAcc: float
    mAcc: float
    images: int
    skipped: int
    complete: bool
    short_side: int | None
    crop: object
    stride: object
    background: object
    threshold: float | None
    vocabulary: str | None
    vocabulary_hash: str | None
    templates: str | None
    weights: str | None
    weights_sha256: str | None
    checkpoint: str | None
    checkpoint_sha256: str | None
    precision: str | None
    attention: str | None
    refiners: object
    supervision: str | None
    device: str
    processes: int
    seconds: float
    peak_rss_mb: float
    peak_cuda_mb: float | None
    config: str
    config_hash: str
    versions: dict[str, str]
    git_commit: str | None
    date: str
    data: dict[str, object] = field(default_factory=dict)
    model: dict[str, object] = field(default_factory=dict)

    def write_json(self, path: str | Path, per_class: list[dict[str, object]] | None = None) -> None:
        """The row, the rule of the means and the values per class, as one JSON object."""
        write_json(path, _no_nan({"miou_rule": MIOU_RULE, **asdict(self), "per_class": per_class or []}))

    def append_csv(self, path: str | Path) -> Path:
        """Add the row to a CSV file that many runs share, also at the same time.

        Returns:
            the file written: ``path``, or, where that has other columns (made by another version), a neighbour whose
            name ends in a hash of the columns; rows are never written under a header that does not fit.
        """
        path = Path(path)
        header = [_CSV_NAMES.get(f.name, f.name) for f in fields(self)]
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{path}.lock"):
            if path.exists() and path.stat().st_size and _header_of(path) != header:
                digest = hashlib.sha256(",".join(header).encode()).hexdigest()[:8]
                path = path.with_name(f"{path.stem}-{digest}{path.suffix}")
            new = not path.exists() or not path.stat().st_size
            old = "" if new else path.read_text(encoding="utf-8")
            with atomic_path(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
                file.write(old)
                writer = csv.writer(file)
                if new:
                    writer.writerow(header)
                writer.writerow([_cell(getattr(self, f.name)) for f in fields(self)])
        return path


def make_row(
    cfg: Config,
    summary: SegSummary,
    *,
    model: Mapping[str, object],
    dataset: object,
    images: int,
    skipped: int,
    seconds: float,
    device: torch.device,
    processes: int = 1,
) -> ResultRow:
    """Collect everything of :class:`ResultRow`.

    Args:
        cfg: config of the run.
        summary: of the data set's confusion matrix.
        model: what ``model.describe()`` gave.
        dataset: the data set; its ``metainfo``, ``pipeline`` and folders are read.
        images, skipped: images evaluated and not.
        seconds: wall time.
        device: where the model ran.
        processes: how many.
    """
    rest = dict(model)
    checkpoint = cfg.get("load_from")
    vocabulary = (cfg.get("model") or {}).get("vocabulary")
    if isinstance(vocabulary, Mapping):
        vocabulary = vocabulary.get("file") or vocabulary.get("name") or json.dumps(vocabulary, default=describe)
    taken = {
        name: rest.pop(name, None)
        for name in (
            *("crop", "stride", "background", "threshold", "vocabulary_hash", "templates", "weights"),
            *("weights_sha256", "precision", "attention", "refiners", "supervision"),
        )
    }
    benchmark = BENCHMARKS.get(dataset.metainfo.get("benchmark") or "")
    config = str(cfg.filename or "")
    if checkpoint:
        from ovseg.weights import file_sha256  # imports open_clip: only where it is needed
    return ResultRow(
        method=cfg.get("method") or Path(config).stem or "unnamed",
        dataset=benchmark.title if benchmark else _title(dataset),
        **summary.means(),
        images=images,
        skipped=skipped,
        complete=_is_complete(dataset, benchmark, images, skipped),
        short_side=_short_side(dataset),
        vocabulary=rest.pop("vocabulary", None) or (_in_checkout(vocabulary) if vocabulary is not None else None),
        checkpoint=str(checkpoint) if checkpoint else None,
        checkpoint_sha256=file_sha256(checkpoint) if checkpoint else None,
        device=device_name(device),
        processes=processes,
        seconds=round(seconds, 3),
        peak_rss_mb=peak_rss_mb(),
        peak_cuda_mb=round(torch.cuda.max_memory_allocated(device) / 2**20, 1) if device.type == "cuda" else None,
        config=config,
        config_hash=config_hash(cfg),
        versions=library_versions(),
        git_commit=git_commit(),
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        data=_data_of(dataset),
        model=rest,
        **taken,
    )


def config_hash(cfg: Config) -> str:
    """16 hex digits over all settings that can change a number.

    Left out are the work directory, hooks, launcher, number of loader workers, and where this machine keeps its data.
    """
    settings = {k: v for k, v in cfg.to_dict().items() if k not in _VOLATILE}
    text = json.dumps(_portable(settings), sort_keys=True, default=describe)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _portable(value: object) -> object:
    if isinstance(value, Mapping):
        return {str(k): _portable(v) for k, v in value.items() if k not in _MACHINE}
    if isinstance(value, list | tuple):
        return [_portable(v) for v in value]
    return value.replace(str(_ROOT), "") if isinstance(value, str) else value


def library_versions(more: Sequence[str] = ()) -> dict[str, str]:
    """Versions of ovseg, Python, the libraries that shape numbers, and ``more`` by their distributions' names."""
    from ovseg import __version__

    versions = {"ovseg": __version__, "python": platform.python_version()}
    for name in (*_LIBRARIES, *more):
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = "not installed"
    return versions


def git_commit() -> str | None:
    """Commit of the checkout ovseg runs from, ``+dirty`` when files differ from it; ``None`` outside a checkout."""
    try:
        return _git("rev-parse", "HEAD") + ("+dirty" if _git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.SubprocessError):
        return None


def _git(*args: str) -> str:
    done = subprocess.run(["git", "-C", str(_ROOT), *args], capture_output=True, text=True, check=True, timeout=10)
    return done.stdout.strip()


def device_name(device: torch.device) -> str:
    """Name of the GPU or of the processor."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        model = platform.processor() or platform.machine()
    return f"{model}, {torch.get_num_threads()} threads"


def peak_rss_mb() -> float:
    """Largest resident memory of this process so far, MiB; nan where the system does not say."""
    try:
        import resource
    except ImportError:  # Windows
        return float("nan")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (2**20 if platform.system() == "Darwin" else 2**10), 1)


def _title(dataset: object) -> str:
    """What a data set without a benchmark's name is called: the last two folders of its photos."""
    if not hasattr(dataset, "img_dir"):
        return type(dataset).__name__
    return "/".join(Path(dataset.root, dataset.img_dir).parts[-2:])


def _is_complete(dataset: object, benchmark: Benchmark | None, images: int, skipped: int) -> bool:
    expected = benchmark.images if benchmark is not None else ()
    return skipped == 0 and getattr(dataset, "_indices", None) is None and (not expected or images in expected)


def _short_side(dataset: object) -> int | None:
    steps = getattr(dataset.pipeline, "transforms", ())
    return next((t.short_side for t in steps if hasattr(t, "short_side")), None)


def _data_of(dataset: object) -> dict[str, object]:
    names = ("root", "img_dir", "mask_dir", "mask_suffixes", "split", "label_map")
    values = {name: getattr(dataset, name, None) for name in names}
    values["root"] = _in_checkout(values["root"]) if values["root"] is not None else None
    return {**values, **{k: dataset.metainfo.get(k) for k in ("benchmark", "reduce_zero_label", "ignore_index")}}


def _in_checkout(path: object) -> str:
    """A path below the checkout relative to it: the same text on every machine. Other values as they are."""
    text = str(path)
    normal = os.path.normpath(text)
    return os.path.relpath(normal, _ROOT) if normal.startswith(str(_ROOT) + os.sep) else text


def _header_of(path: Path) -> list[str]:
    with open(path, newline="", encoding="utf-8") as file:
        return next(csv.reader(file), [])


def _cell(value: object) -> object:
    if isinstance(value, float):
        return round(value, 4)
    if isinstance(value, dict | list | tuple):
        return json.dumps(value, default=describe)
    return "" if value is None else value


def _no_nan(value: object) -> object:
    """nan and infinities as None, which JSON has; other values JSON lacks as text."""
    if isinstance(value, Mapping):
        return {str(k): _no_nan(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_no_nan(v) for v in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, str | int | bool) else describe(value)
