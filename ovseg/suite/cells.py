"""One method on one data set: its config, its run, what was found."""

from __future__ import annotations

import gc
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from mmengine.config import Config, ConfigDict

from ovseg.apis import config_root, method_config
from ovseg.arguments import suggestion
from ovseg.datasets.class_names import load_class_names
from ovseg.datasets.files import write_json
from ovseg.datasets.fingerprint import dataset_fingerprint
from ovseg.datasets.folder import folder_dataset
from ovseg.engine import EvalRunner, ResultHook, VisualizationHook, check_config, load_config
from ovseg.engine.own_data import use_dataset
from ovseg.errors import SetupError
from ovseg.evaluation.result import config_hash, git_commit
from ovseg.registry import DATASETS, SCOPE
from ovseg.report import ReportHook
from ovseg.suite.definition import Suite, SuiteData, SuiteMethod
from ovseg.text.vocabulary import packaged_vocabularies


@dataclass(frozen=True)
class Cell:
    """What is known of one method on one data set.

    Attributes:
        method, dataset: names in the suite.
        mIoU, mIoU_present, aAcc, mAcc: in percent; ``None``: there is no number.
        images, skipped: evaluated and not.
        complete: whether these are all images of the benchmark.
        seconds: of the evaluation.
        fingerprint: of the data, see :func:`ovseg.datasets.fingerprint.dataset_fingerprint`.
        config_hash: of all settings that change numbers.
        checkpoint_sha256: of the checkpoint, where there is one.
        git_commit: of ovseg, where it ran from a checkout.
        expected, tolerance: mIoU in percent and points.
        ok: whether the number is within the tolerance; ``None`` where nothing was expected.
        verdict: the same in words.
        notes: what was changed in the method's config for this data set.
        work_dir: folder of the run.
    """

    method: str
    dataset: str
    mIoU: float | None = None
    mIoU_present: float | None = None
    aAcc: float | None = None
    mAcc: float | None = None
    images: int = 0
    skipped: int = 0
    complete: bool = False
    seconds: float = 0.0
    fingerprint: str | None = None
    config_hash: str | None = None
    checkpoint_sha256: str | None = None
    git_commit: str | None = None
    expected: float | None = None
    tolerance: float | None = None
    ok: bool | None = None
    verdict: str = "not run"
    notes: list[str] = field(default_factory=list)
    work_dir: str = ""

    def judged(self, suite: Suite) -> Cell:
        """With what the suite expects of it, and the verdict."""
        expected, tolerance = suite.expected.get((self.method, self.dataset), (None, None))
        data = next(d for d in suite.datasets if d.name == self.dataset)
        ok, verdict = None, self.verdict
        if self.mIoU is not None:
            if data.fingerprint and not str(self.fingerprint).startswith(data.fingerprint):
                told = f"fingerprint {str(self.fingerprint)[:12]}, not {data.fingerprint[:12]}"
                ok, verdict = False, f"other data: {told}"
            elif self.skipped:
                ok, verdict = False, f"incomplete: {self.skipped} samples skipped"
            elif expected is None:
                verdict = "nothing expected"
            else:
                off = self.mIoU - expected
                ok = round(abs(off), 6) <= tolerance
                verdict = "as expected" if ok else f"off by {off:+.2f}"
        elif expected is not None or self.verdict != "not run":
            ok = False
        return Cell(**{**asdict(self), "expected": expected, "tolerance": tolerance, "ok": ok, "verdict": verdict})


def cell_config(method: SuiteMethod, data: SuiteData, limit: int | None = None) -> tuple[Config, list[str]]:
    """The config of a run, and what of the method's had to be changed, a sentence each.

    A method with a config per data set runs its published protocol. Any other keeps its own resolution, windows and
    head, and gets the data set and its words.

    Raises:
        SetupError: for a config or data set that does not exist or does not fit.
        DatasetNotFound: for a folder that is not there.
    """
    if method.per_dataset:
        if data.benchmark is None:
            raise SetupError(f"{method.name} has a config per benchmark, and {data.name} is none; name one config")
        cfg, told = load_config(method.config.replace("{dataset}", data.benchmark), method.options), []
        if data.vocabulary is not None and cfg.get("model"):
            cfg.model.pop("vocabulary", None)  # a merge would keep the other one's settings
            cfg.model.vocabulary = _words(data.vocabulary)
    else:
        if method.config is not None:
            cfg = load_config(method.config, method.options)
        else:
            cfg = method_config(method.method, method.weights)
            cfg.merge_from_dict(dict(method.options))
            check_config(cfg)
        told = use_dataset(cfg, _dataset_config(data), _words(data.vocabulary) or _packaged_words(data))
    if method.checkpoint is not None:
        if not Path(method.checkpoint).is_file():
            raise SetupError(f"checkpoint {method.checkpoint} does not exist; check the path")
        cfg.load_from = method.checkpoint
    if limit is not None:
        cfg.test_dataloader.dataset.indices = limit
    return cfg, told


def _dataset_config(data: SuiteData) -> dict[str, object]:
    if data.folder:
        try:
            return folder_dataset(**data.folder)
        except (TypeError, ValueError) as error:
            raise SetupError(f"data set {data.name}: {error}") from error
    if data.config is not None:
        cfg = load_config(data.config)
    else:
        file = config_root() / "_base_" / "datasets" / f"{data.benchmark}.py"
        known = [p.stem for p in file.parent.glob("[!_]*.py")]
        if data.benchmark not in known:
            told = suggestion(data.benchmark, known)
            raise SetupError(f"no data set {data.benchmark!r}{told}; there are {', '.join(sorted(known))}")
        cfg = Config.fromfile(file)
    if not cfg.get("test_dataloader"):
        raise SetupError(f"config {cfg.filename} has no test_dataloader: it is no data set")
    return {key: value for key, value in cfg.test_dataloader.dataset.to_dict().items() if key != "pipeline"}


def _words(vocabulary: object) -> object:
    """A name or file as the config of a vocabulary."""
    return dict(file=vocabulary) if isinstance(vocabulary, str) else vocabulary


def _packaged_words(data: SuiteData) -> object:
    """The vocabulary of a benchmark, which has more than one word for some classes."""
    if data.benchmark is None:
        return None
    classes = _dataset_config(data)["classes"]
    if classes not in packaged_vocabularies():
        return None
    background = load_class_names(classes).index("background") if "background" in load_class_names(classes) else None
    return dict(file=classes, background=background)


def _state(cfg: Config, fingerprints: dict[str, str]) -> dict[str, object]:
    """What two runs must share so that one number stands for both.

    Args:
        fingerprints: of data sets that were read already, by their config; grows.

    Raises:
        DatasetNotFound: if the data is not there.
    """
    key = json.dumps(cfg.test_dataloader.dataset.to_dict(), sort_keys=True, default=str)
    if key not in fingerprints:
        dataset = DATASETS.build(ConfigDict({"_scope_": SCOPE, **cfg.test_dataloader.dataset, "pipeline": []}))
        fingerprints[key] = dataset_fingerprint(dataset)
    checkpoint = cfg.get("load_from")
    if checkpoint:
        from ovseg.weights import file_sha256  # imports open_clip: only where it is needed
    return {
        "config_hash": config_hash(cfg),
        "fingerprint": fingerprints[key],
        "checkpoint_sha256": file_sha256(checkpoint) if checkpoint else None,
    }


def finished_cell(work_dir: Path, cfg: Config, fingerprints: dict[str, str]) -> Cell | None:
    """The cell of an earlier run with the same settings, data and checkpoint that skipped nothing; else ``None``."""
    try:
        cell = Cell(**json.loads((work_dir / "cell.json").read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None
    same = all(getattr(cell, key) == value for key, value in _state(cfg, fingerprints).items())
    return cell if same and not cell.skipped else None


def evaluate_cell(
    names: tuple[str, str],
    cfg: Config,
    work_dir: Path,
    fingerprints: dict[str, str],
    *,
    notes: list[str],
    pictures: int = 0,
    resume: bool = False,
    report: bool = False,
) -> Cell:
    """Run one cell and keep what was found in ``cell.json``.

    Args:
        names: of method and data set.
        cfg: of :func:`cell_config`.
        work_dir: of the run.
        fingerprints: see :func:`finished_cell`.
        notes: what was changed in the config.
        pictures: of the first samples, into ``work_dir/pictures``.
        resume: go on with what an interrupted run left.
        report: gather errors into ``work_dir/report``, see :mod:`ovseg.report`.

    Raises:
        SetupError, DatasetNotFound, WeightsError, OSError: if it cannot run.
    """
    state = _state(cfg, fingerprints)
    cfg.work_dir = str(work_dir)
    cfg.setdefault("test_cfg", {})["resume"] = resume
    runner = EvalRunner.from_cfg(cfg)
    if pictures:
        runner.register_hook(VisualizationHook(work_dir / "pictures", max_side=480, first=pictures))
    if report:
        runner.register_hook(ReportHook(worst=3, examples=False))
    runner.test()
    row = next(hook for hook in runner.hooks if isinstance(hook, ResultHook)).row
    values: Mapping[str, object] = asdict(row)
    taken = ("mIoU", "mIoU_present", "aAcc", "mAcc", "images", "skipped", "complete", "seconds")
    cell = Cell(
        *names,
        **{key: values[key] for key in taken},
        **state,
        git_commit=git_commit(),
        notes=notes,
        verdict="evaluated",
        work_dir=str(work_dir),
    )
    write_json(work_dir / "cell.json", asdict(cell))
    del runner
    gc.collect()  # a model's references go in circles, and the next one needs the memory
    return cell
