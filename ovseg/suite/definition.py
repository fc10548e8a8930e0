"""The file that says which methods are evaluated on which data sets, and what is expected."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path

import yaml

from ovseg.arguments import suggestion
from ovseg.errors import SetupError

_NAME = re.compile(r"[\w.+-]+( [\w.+-]+)*")
_FOLDER_KEYS = (
    *("images", "masks", "classes", "img_suffix", "mask_suffix", "split", "pairs", "annotations", "colours"),
    *("unlabelled", "reduce_zero_label", "ignore_index", "label_map"),
)
_PATHS = ("images", "masks", "split", "pairs", "config", "checkpoint")


@dataclass(frozen=True)
class SuiteMethod:
    """One row of the table.

    Attributes:
        name: in the table and of its folder.
        config: config file; with ``{dataset}`` in it, one per data set. ``None``: ``method`` with ``weights``.
        method: see :func:`ovseg.apis.method_config`.
        weights: CLIP weights by catalogue name.
        checkpoint: for trained methods.
        options: values that replace those of the config, by dotted key.
    """

    name: str
    config: str | None = None
    method: str | None = None
    weights: str = "nano-photo"
    checkpoint: str | None = None
    options: Mapping[str, object] = field(default_factory=dict)

    @property
    def per_dataset(self) -> bool:
        """Whether each data set has a config of its own, with its protocol."""
        return self.config is not None and "{dataset}" in self.config


@dataclass(frozen=True)
class SuiteData:
    """One column of the table.

    Attributes:
        name: in the table and of its folder.
        benchmark: packaged data set, a file in ``configs/_base_/datasets``.
        config: a config file with a ``test_dataloader``, of which the data set is taken.
        folder: arguments of :func:`ovseg.datasets.folder.folder_dataset`.
        vocabulary: words of the classes, as ``model.vocabulary`` takes them.
        fingerprint: of the data that is expected, or its first digits.
    """

    name: str
    benchmark: str | None = None
    config: str | None = None
    folder: Mapping[str, object] = field(default_factory=dict)
    vocabulary: object = None
    fingerprint: str | None = None


@dataclass(frozen=True)
class Suite:
    """Methods x data sets.

    Attributes:
        name: title of the table.
        methods, datasets: rows and columns.
        expected: ``{(method, data set): (mIoU in percent, tolerance in points)}``.
        published: rows of numbers that others published, ``{name: {data set: mIoU}}``.
        source: where those come from.
        limit: only the first samples of each data set.
        pictures: of each cell.
        groups: further columns, ``{name: data sets or groups before it}``: the mean of their mIoU, where all are there.
    """

    name: str
    methods: tuple[SuiteMethod, ...]
    datasets: tuple[SuiteData, ...]
    expected: Mapping[tuple[str, str], tuple[float, float]] = field(default_factory=dict)
    published: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    source: str = ""
    limit: int | None = None
    pictures: int = 2
    groups: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def group_mean(self, name: str, values: Mapping[str, float | None]) -> float | None:
        """Mean over a group; ``None`` where a data set of it has no value."""
        found = [self.group_mean(n, values) if n in self.groups else values.get(n) for n in self.groups[name]]
        there = [value for value in found if value is not None]
        return sum(there) / len(there) if len(there) == len(found) else None


def read_suite(path: str | Path) -> Suite:
    """A suite file (YAML or JSON); docs/evaluation.md shows one. Paths in it are relative to its folder.

    Raises:
        SetupError: naming the file and what in it is missing, unknown, doubled or of the wrong kind.
    """
    path = Path(path)
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SetupError(f"suite {path} cannot be read: {error.strerror or error}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise SetupError(f"suite {path} is no YAML: {' '.join(str(error).split())}") from error
    try:
        return _suite(document, path)
    except ValueError as error:
        if isinstance(error, SetupError):
            raise
        raise SetupError(f"suite {path}: {error}") from error


def _suite(document: object, path: Path) -> Suite:
    keys = (
        "name",
        "methods",
        "datasets",
        "expected",
        "tolerance",
        "published",
        "source",
        "limit",
        "pictures",
        "groups",
    )
    found = _mapping(document, "the file", keys)
    for key in ("methods", "datasets"):
        if not isinstance(found.get(key), list) or not found[key]:
            raise ValueError(f"{key} is missing; give a list of {key}")
    methods = tuple(_method(entry, path.parent) for entry in found["methods"])
    datasets = tuple(_dataset(entry, path.parent) for entry in found["datasets"])
    for kind, entries in (("methods", methods), ("datasets", datasets)):
        names = [entry.name for entry in entries]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise ValueError(f"{kind}: {twice!r} is there twice; give one of them another name")
    limit, pictures = found.get("limit"), found.get("pictures", 2)
    if limit is not None and (not isinstance(limit, int) or limit < 1):
        raise ValueError(f"limit is {limit!r}; give a number of samples")
    if not isinstance(pictures, int) or pictures < 0:
        raise ValueError(f"pictures is {pictures!r}; give a number")
    names = [m.name for m in methods], [d.name for d in datasets]
    tolerance = _number(found.get("tolerance", 0.1), "tolerance")
    groups: dict[str, tuple[str, ...]] = {}
    for name, parts in _mapping(found.get("groups") or {}, "groups").items():
        where = f"groups: {name}"
        if str(name) in names[1] or not isinstance(parts, list) or not parts:
            raise ValueError(f"{where}: {parts!r}; give a name that no data set has and a list of data sets")
        groups[str(name)] = tuple(_known(part, (*names[1], *groups), where) for part in parts)
    published = {
        str(name): {
            _known(data, (*names[1], *groups), f"published: {name}"): _number(value, f"published: {name}: {data}")
            for data, value in _mapping(row, f"published: {name}").items()
        }
        for name, row in _mapping(found.get("published") or {}, "published").items()
    }
    return Suite(
        name=str(found.get("name", path.stem)),
        methods=methods,
        datasets=datasets,
        expected=_expected(found.get("expected") or {}, names, tolerance),
        published=published,
        source=str(found.get("source", "")),
        limit=limit,
        pictures=pictures,
        groups=groups,
    )


def _method(entry: object, folder: Path) -> SuiteMethod:
    if isinstance(entry, str):
        entry = {"config": entry} if entry.endswith(".py") else {"method": entry}
    found = _mapping(entry, "methods", [f.name for f in fields(SuiteMethod)])
    if (found.get("config") is None) == (found.get("method") is None):
        raise ValueError(f"methods: {found}: give either a method's name or a config")
    default = found.get("method") or Path(found["config"]).stem.replace("_{dataset}", "")
    options = _mapping(found.get("options") or {}, f"methods: {default}: options")
    return SuiteMethod(**{**_placed(found, folder), "name": _name(found.get("name", default)), "options": options})


def _dataset(entry: object, folder: Path) -> SuiteData:
    if isinstance(entry, str):
        entry = {"config": entry} if entry.endswith(".py") else {"benchmark": entry}
    own = [f.name for f in fields(SuiteData) if f.name != "folder"]
    found = _placed(_mapping(entry, "datasets", [*own, *_FOLDER_KEYS]), folder)
    settings = {key: found.pop(key) for key in _FOLDER_KEYS if key in found}
    if sum((bool(settings), "config" in found, "benchmark" in found)) != 1:
        raise ValueError(f"datasets: {entry}: give one of benchmark, config, or images and masks")
    if settings and not {"images", "masks"} <= set(settings):
        raise ValueError(f"datasets: {entry}: a folder needs images and masks")
    if isinstance(settings.get("classes"), str) and (folder / settings["classes"]).is_file():
        settings["classes"] = str(folder / settings["classes"])
    if isinstance(found.get("vocabulary"), str) and (folder / found["vocabulary"]).is_file():
        found["vocabulary"] = str(folder / found["vocabulary"])
    default = found.get("benchmark") or Path(found.get("config") or settings["images"]).stem
    return SuiteData(**{**found, "name": _name(found.get("name", default)), "folder": settings})


def _placed(found: Mapping[str, object], folder: Path) -> dict[str, object]:
    """Paths as seen from the file; configs that are not there may be packaged ones."""
    placed = dict(found)
    for key in _PATHS:
        value = placed.get(key)
        if value is None:
            continue
        if not isinstance(value, str):
            raise ValueError(f"{key} is {value!r}; give a path")
        if key != "config" or (folder / value).is_file() or ("{" in value and list(folder.glob(_pattern(value)))):
            placed[key] = str(folder / value)
    return placed


def _pattern(config: str) -> str:
    return config.replace("{dataset}", "*") if not Path(config).is_absolute() else "\0"


def _expected(
    rows: object, names: tuple[Sequence[str], Sequence[str]], tolerance: float
) -> dict[tuple[str, str], tuple[float, float]]:
    found = {}
    for method, row in _mapping(rows, "expected").items():
        method = _known(method, names[0], "expected")
        for data, value in _mapping(row, f"expected: {method}").items():
            data = _known(data, names[1], f"expected: {method}")
            where = f"expected: {method}: {data}"
            if isinstance(value, Mapping):
                value = _mapping(value, where, ("mIoU", "tolerance"))
                if "mIoU" not in value:
                    raise ValueError(f"{where}: mIoU is missing")
                pair = value["mIoU"], value.get("tolerance", tolerance)
            else:
                pair = value, tolerance
            found[method, data] = _number(pair[0], where), _number(pair[1], f"{where}: tolerance")
    return found


def _mapping(value: object, where: str, keys: Sequence[str] | None = None) -> dict:
    if not isinstance(value, Mapping):
        raise ValueError(f"{where}: {value!r}; give names and values")
    strange = next((key for key in value if keys is not None and key not in keys), None)
    if strange is not None:
        told = f"{suggestion(str(strange), keys)}; there are {', '.join(keys)}"
        raise ValueError(f"{where}: {strange!r} is unknown{told}")
    return dict(value)


def _known(name: object, names: Sequence[str], where: str) -> str:
    if name not in names:
        raise ValueError(f"{where}: {name!r} is not in the suite{suggestion(str(name), names)} ({', '.join(names)})")
    return str(name)


def _number(value: object, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 100:
        raise ValueError(f"{where} is {value!r}; give a number in percent, 0 to 100")
    return float(value)


def _name(name: object) -> str:
    if not isinstance(name, str) or not _NAME.fullmatch(name) or name.startswith("."):
        raise ValueError(f"name {name!r}: names become folders; use letters, digits, blanks and . _ + -")
    return name
