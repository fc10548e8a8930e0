"""What an installation brings: dependencies that are declared and pinned, and files that travel in the wheel."""

from __future__ import annotations

import ast
import functools
import importlib.metadata
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tools import check_extras

REPOSITORY = Path(__file__).resolve().parents[1]
ABSENT = {  # import name: distribution, of what need not be installed here
    "cupy": "cupy-cuda13x",
    "faiss": "faiss-cpu",
    "pillow_heif": "pillow-heif",
    "pydensecrf": "pydensecrf2",
}
WITH_TORCH = {"cuda"}
"""Modules that torch brings and whose version must be torch's own."""


def declared() -> list[Requirement]:
    base, extras = check_extras.declared()
    return [Requirement(line) for line in [*base, *(line for lines in extras.values() for line in lines)]]


def constraints() -> dict[str, Requirement]:
    lines = (line.partition("#")[0].strip() for line in (REPOSITORY / "constraints.txt").read_text().splitlines())
    pins = [Requirement(line) for line in lines if line]
    assert len({canonicalize_name(pin.name) for pin in pins}) == len(pins), "a package is pinned twice"
    return {canonicalize_name(pin.name): pin for pin in pins}


def test_every_declared_dependency_is_pinned_within_its_bounds():
    pins = constraints()
    missing = sorted({r.name for r in declared() if canonicalize_name(r.name) not in pins})
    assert not missing, f"constraints.txt does not pin {missing}"
    for requirement in declared():
        version = next(iter(pins[canonicalize_name(requirement.name)].specifier)).version
        assert requirement.specifier.contains(version), f"{requirement} excludes the pinned {version}"


def test_pillow_suits_gradio():
    assert str(constraints()["pillow"].specifier) == "==12.3.0"
    assert any(r.name == "gradio" and not r.specifier.contains("5.50") for r in declared())


def test_extras_bring_what_they_promise():
    _, extras = check_extras.declared()
    names = {extra: {Requirement(line).name for line in lines} for extra, lines in extras.items()}
    assert {"onnx", "onnxruntime", "onnxscript"} <= names["export"]
    assert names["scale"] == {"ray", "pyarrow", "webdataset", "fsspec"} and names["bank"] == {"faiss-cpu"}
    assert not any({"segment-anything", "torch"} & found for found in names.values()), "part of every installation"


@functools.cache
def owners() -> dict[str, list[str]]:
    """Distributions by the names that can be imported from them."""
    return dict(importlib.metadata.packages_distributions())


def imported(path: Path) -> set[str]:
    """Top names of everything a file imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            found.add(node.module.split(".")[0])
    return found


@pytest.mark.parametrize("folder", ["ovseg", "tools", "demo", "configs", "tests"])
def test_everything_imported_is_declared(folder):
    """deptry's question, which cannot read setup.py: nothing is used that merely comes with something else."""
    wanted = {canonicalize_name(r.name) for r in declared()} | {"setuptools"}
    own = {"ovseg", "tools", "tests", "demo", "configs"} | WITH_TORCH | set(sys.stdlib_module_names)
    for path in sorted((REPOSITORY / folder).rglob("*.py")):
        for name in sorted(imported(path) - own):
            if (path.parent / f"{name}.py").is_file():
                continue  # tools run as scripts find their neighbours
            found = owners().get(name) or [ABSENT.get(name, name)]
            assert any(canonicalize_name(d) in wanted for d in found), f"{path}: {name} ({', '.join(found)})"


def metadata(tmp_path: Path, **environment: str) -> str:
    command = [sys.executable, "setup.py", "-q", "egg_info", "--egg-base", str(tmp_path)]
    subprocess.run(command, cwd=REPOSITORY, check=True, capture_output=True, env={**os.environ, **environment})
    return (tmp_path / "ovseg.egg-info" / "PKG-INFO").read_text()


def test_metadata_names_pythons_and_links(tmp_path):
    text = metadata(tmp_path, OVSEG_HOME_URL="https://example.org/us/ovseg/")
    assert "Requires-Python: >=3.11" in text and "Classifier: Typing :: Typed" in text
    assert "Project-URL: Changelog, https://example.org/us/ovseg/blob/main/CHANGELOG.md" in text
    pythons = set(re.findall(r"Classifier: Programming Language :: Python :: (3\.\d+)", text))
    assert pythons == set(check_extras.PYTHONS)
    assert "Project-URL" not in metadata(tmp_path, OVSEG_HOME_URL="")


def test_the_wheel_holds_configs_scenes_and_types_and_nothing_else(tmp_path):
    build = ["egg_info", "--egg-base", str(tmp_path), "build", "-b", str(tmp_path / "build")]
    command = [sys.executable, "setup.py", "-q", *build]
    subprocess.run(command, cwd=REPOSITORY, check=True, capture_output=True)
    lib = tmp_path / "build" / "lib"  # what bdist_wheel packs
    names = {path.relative_to(lib).as_posix() for path in lib.rglob("*") if path.is_file()}
    assert all(n.startswith("ovseg/") for n in names)
    for folder, place in (
        ("ovseg", ""),
        ("configs", "configs/"),
        ("data/scenes", "data/scenes/"),
        ("data/photos", "data/photos/"),
    ):
        for path in (REPOSITORY / folder).rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts:
                name = f"ovseg/{place}{path.relative_to(REPOSITORY / folder).as_posix()}"
                assert name in names, f"{name} is missing in the wheel"
    assert not [
        n
        for n in names
        if n.startswith("ovseg/data/") and not n.startswith(("ovseg/data/scenes/", "ovseg/data/photos/"))
    ]


def test_resolver_script_says_what_it_lacks(monkeypatch, capsys):
    monkeypatch.setattr(check_extras, "find_uv", lambda: None)
    assert check_extras.main([]) == 2 and "pip install uv" in capsys.readouterr().err
    monkeypatch.setattr(check_extras, "find_uv", lambda: ["uv"])
    assert check_extras.main(["--extra", "dmeo"]) == 2 and "dmeo" in capsys.readouterr().err


def test_resolver_script_names_the_extra_where_all_together_fail(monkeypatch, capsys):
    monkeypatch.setattr(check_extras, "find_uv", lambda: ["uv"])
    bad = lambda uv, lines, python, file: "no gradio" if file and any("gradio" in x for x in lines) else ""  # noqa: E731
    monkeypatch.setattr(check_extras, "resolve", bad)
    assert check_extras.main(["--python", "3.12"]) == 1
    out = capsys.readouterr().out
    assert "FAILED Python 3.12, constraints.txt, demo" in out and "FAILED Python 3.12, constraints.txt, all" in out
    assert "ok     Python 3.12, constraints.txt, sam" in out and "2 failed" in out
    assert "ok     Python 3.12, no constraints, all together" in out and "no constraints, demo" not in out
    assert check_extras.main(["--python", "3.12", "--each"]) == 1
    assert "ok     Python 3.12, no constraints, demo" in capsys.readouterr().out
    assert check_extras.main(["--python", "3.11", "--extra", "demo", "sam"]) == 1
    out = capsys.readouterr().out
    assert "1 failed" in out and "all together" not in out and "ok     Python 3.11, constraints.txt, sam" in out
