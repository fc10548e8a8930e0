"""Reading a config file so that nothing in it, or beside it on the command line, is passed over without a word."""

from __future__ import annotations

import ast
import inspect
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path

from mmengine.config import Config
from mmengine.runner import Runner

from ovseg.arguments import suggestion
from ovseg.engine.components import component_faults
from ovseg.errors import SetupError

# What MMEngine's runner reads from the config besides its own arguments.
_RUNNER_READS = (
    *("find_unused_parameters", "sync_bn", "model_wrapper_cfg", "compile", "activation_checkpointing"),
    *("efficient_conv_bn_eval", "runner_type"),
)
_OWN_KEYS = ("short_side", "folder", "custom_imports", "method", "protocol")
_NOTES = ("num_classes",)  # says something about a data set; nothing is built from it
# Variables of the packaged configs. A config that was dumped holds them without the lines that used them.
_PRIVATE = "let the name of a variable of your own begin with an underscore"
_VARIABLES = ("dataset_type", "test_pipeline", "data_root", "max_iters", "warmup", "sprites", "crop")


def config_root() -> Path:
    """Folder of the packaged configs: beside the package in a checkout, inside it when installed from a wheel."""
    package = Path(__file__).resolve().parents[1]
    inside = package / "configs"
    return inside if inside.is_dir() else package.parent / "configs"


def find_config(name: str | Path) -> Path:
    """The file of a config: ``name`` itself, or the packaged config it names.

    ``configs/nano/clip_nano_scenes.py`` and ``nano/clip_nano_scenes.py`` are found from any folder, so that what the
    documentation says works with an installed wheel too.

    Raises:
        SetupError: if there is neither.
    """
    file = Path(name)
    if file.is_file():
        return file
    inside = Path(*file.parts[1:]) if file.parts[:1] == ("configs",) else file
    packaged = config_root() / inside
    if not file.is_absolute() and packaged.is_file() and packaged.resolve().is_relative_to(config_root().resolve()):
        return packaged
    state = "is a folder" if file.is_dir() else "does not exist"
    raise SetupError(f"config {name} {state}; give a config file, or the name of one in {config_root()}")


def known_keys() -> list[str]:
    """Top-level keys of a config that have an effect: MMEngine's runner's, and ovseg's own."""
    runner = [name for name in inspect.signature(Runner.__init__).parameters if name not in ("self", "cfg")]
    return [*runner, *_RUNNER_READS, *_OWN_KEYS]


def load_config(file: str | Path, options: Mapping[str, object] | None = None) -> Config:
    """A config file, checked.

    - Its folder, and those of the files it inherits from, join ``sys.path``, so that ``custom_imports`` of a module
      beside the config works from any directory.
    - A top-level key that nothing reads, an unknown component and an unknown argument of a component are refused. A
      variable of the file's own is fine if the file uses it, or if its name begins with an underscore.
    - Such variables are left out of what is returned: changing them afterwards would change nothing.

    Args:
        file: the config, see :func:`find_config`.
        options: values that replace those of the file, by dotted key (``--cfg-options``).

    Raises:
        SetupError: naming the file, the key, and what would do.
    """
    file = find_config(file)
    try:
        cfg = Config.fromfile(file, import_custom_modules=False)
    except Exception as error:  # a config is Python code of the user's and may raise anything
        lost = isinstance(error, FileNotFoundError)
        hint = f"; `_base_` starts at the config's own folder, packaged configs are in {config_root()}" if lost else ""
        raise SetupError(f"config {file} cannot be read: {_one_line(error)}{hint}") from error
    try:
        if options:
            _apply(cfg, options, file)
        _import_modules(cfg, file)
        check_config(cfg)
    except RuntimeError as error:  # MMEngine's, for a name of another module that is looked up late and not there
        raise SetupError(f"config {file} cannot be read: {_one_line(error)}") from error
    for key in [key for key in cfg if key not in (*known_keys(), *_NOTES)]:
        cfg.pop(key)
    return cfg


def check_config(cfg: Config) -> None:
    """Refuse what nothing would read.

    Raises:
        SetupError: for the first unknown top-level key, component or argument of a component.
    """
    where = f"config {cfg.filename}: " if cfg.filename else "config: "
    sources = [_read_source(path) for path in _chain(cfg.filename)] if cfg.filename else []
    known = known_keys()
    assigned = {name for source in sources for name in source.assigned}
    for source in sources:
        for name in source.without_use(known, sources):
            if name in _VARIABLES and not source.has_base:
                continue
            raise SetupError(f"config {source.path}: {name}: {_no_effect(name, cfg, known)}; {_PRIVATE}")
    for name in cfg:
        if name not in known and name not in assigned and name not in (*_NOTES, *_VARIABLES) and name[0] != "_":
            raise SetupError(f"{where}{name}: {_no_effect(name, cfg, known)}; {_PRIVATE}")
    fault = next(component_faults(cfg), None)
    if fault is not None:
        raise SetupError(f"{where}{fault}")


def _no_effect(name: str, cfg: Config, known: Iterable[str]) -> str:
    """What to say about a top-level key that nothing reads."""
    last = {path.rpartition(".")[2]: path for path in reversed(list(_paths(cfg.to_dict()))) if "." in path}
    hint = f"; did you mean {last[name]!r}?" if name in last else suggestion(name, known)
    if not hint:
        hint = re.sub(r"'(\w+)'", lambda match: repr(last[match[1]]), suggestion(name, last, cutoff=0.75))
    return f"nothing reads this key, so it would change nothing{hint}"


def _paths(node: object, path: str = "") -> Iterator[str]:
    """Dotted keys of all settings."""
    if isinstance(node, Mapping):
        for key in list(node):
            inner = f"{path}.{key}" if path else str(key)
            yield inner
            yield from _paths(node[key], inner)
    elif isinstance(node, list | tuple):
        for i, value in enumerate(node):
            yield from _paths(value, f"{path}.{i}")


def _apply(cfg: Config, options: Mapping[str, object], file: Path) -> None:
    known = known_keys()
    for key in options:
        top = key.partition(".")[0]
        if top not in known:
            raise SetupError(f"config {file}: --cfg-options {key}: {_no_effect(top, cfg, known)}")
    try:
        cfg.merge_from_dict(dict(options))
    except (KeyError, TypeError, IndexError, ValueError, AttributeError, AssertionError) as error:
        raise SetupError(f"config {file}: --cfg-options {', '.join(options)}: {_one_line(error)}") from error


# ---------------------------------------------------------------------------------------------- modules beside a config
def _import_modules(cfg: Config, file: Path) -> None:
    folders = dict.fromkeys(str(path.resolve().parent) for path in _chain(file))
    own = [folder for folder in folders if not Path(folder).is_relative_to(config_root().resolve())]
    custom = cfg.get("custom_imports") or {}
    if not isinstance(custom, Mapping) or not set(custom) <= {"imports", "allow_failed_imports"}:
        raise SetupError(
            f"config {file}: custom_imports is {custom!r}; write dict(imports=['module'], allow_failed_imports=False)"
        )
    names = custom.get("imports") or []
    names = [names] if isinstance(names, str) else list(names)
    with _first_on_path(own):
        for name in names:
            try:
                import_module(name)
            except Exception as error:  # the module is code of the user's and may raise anything
                missing = isinstance(error, ImportError)
                if missing and custom.get("allow_failed_imports"):
                    continue
                raise SetupError(
                    f"config {file}: custom_imports: module {name!r} cannot be imported: {_one_line(error)}"
                    + (". Put it beside the config or on PYTHONPATH" if missing else "")
                ) from error


@contextmanager
def _first_on_path(folders: Iterable[str]) -> Iterator[None]:
    """``folders`` come first while modules of the config are imported, and stay last: they must hide nobody's."""
    new = [folder for folder in folders if folder not in sys.path]
    sys.path[:0] = new
    try:
        yield
    finally:
        for folder in new:
            if folder in sys.path:
                sys.path.remove(folder)
        sys.path.extend(new)


# ------------------------------------------------------------------------------------------------ variables of a config
@dataclass
class _Source:
    """What the text of one config file says about its top-level names."""

    path: Path
    assigned: set[str] = field(default_factory=set)
    loaded: set[str] = field(default_factory=set)
    asked_of_bases: set[str] = field(default_factory=set)
    has_base: bool = False

    def without_use(self, known: Iterable[str], sources: Iterable[_Source]) -> list[str]:
        """Names that this file sets and that neither ovseg, MMEngine nor a config makes use of."""
        used = self.loaded.union(known, _NOTES, *(source.asked_of_bases for source in sources))
        return sorted(name for name in self.assigned - used if not name.startswith("_"))


def _read_source(path: Path) -> _Source:
    source = _Source(path)
    if path.suffix != ".py":
        return source
    text = path.read_text(encoding="utf-8")
    source.asked_of_bases = set(re.findall(r"_base_\.(\w+)", text))
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
            source.loaded.add(node.id)
        elif isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Import | ast.ImportFrom):
            source.loaded.update(alias.asname or alias.name for alias in getattr(node, "names", ()))
    for node in ast.parse(text).body:
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        names = [n.id for target in targets if target is not None for n in ast.walk(target) if isinstance(n, ast.Name)]
        source.assigned.update(n for n in names if isinstance(node, ast.Assign | ast.AnnAssign))
    source.has_base = "_base_" in source.assigned or "read_base" in source.loaded
    return source


def _chain(file: str | Path) -> list[Path]:
    """A config file and those it inherits from, each once."""
    found: dict[Path, None] = {}
    waiting = [Path(file)]
    while waiting:
        path = waiting.pop()
        if path in found or not path.is_file():
            continue
        found[path] = None
        if path.suffix == ".py":
            bases = Config._get_base_files(str(path))
            waiting += [(path.parent / base) for base in bases if "::" not in base]
    return list(found)


def _one_line(error: BaseException, limit: int = 300) -> str:
    """The error's type and text as one line."""
    text = error.args[0] if isinstance(error, KeyError) and error.args else error
    text = " ".join(str(text).split())
    text = text if len(text) <= limit else text[: limit - 3] + "..."
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
