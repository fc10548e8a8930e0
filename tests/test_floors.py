"""The floors of the house (pyproject.toml, docs/architecture.md): which room may import from which."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LINT = "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports(no_cache=True, no_logo=True))"


def lint(folder: Path) -> subprocess.CompletedProcess:
    """The contracts of ``folder``'s pyproject.toml on its own code."""
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    return subprocess.run([sys.executable, "-c", LINT], cwd=folder, env=environment, capture_output=True, text=True)


def test_every_contract_is_kept():
    done = lint(ROOT)
    assert done.returncode == 0, done.stdout


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """The code alone, to be spoilt."""
    folder = tmp_path_factory.mktemp("house")
    shutil.copy(ROOT / "pyproject.toml", folder)
    for package in ("ovseg", "tools"):
        for path in (ROOT / package).rglob("*.py"):
            target = folder / path.relative_to(ROOT)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, target)
    return folder


@pytest.mark.parametrize(
    ("module", "line", "broken"),
    [
        ("windows", "from ovseg.segmentors import OpenVocabSegmentor", "know nothing of segmentors"),
        ("segmentors/words", "from ovseg.engine.runner import EvalRunner", "segmentors know nothing"),
        ("weights/load", "import tools.benchmark", "never imports the tools"),
        ("attention/base", "from ovseg.refiners import PAMR", "floors"),
        ("text/cache", "from ovseg.evaluation import SegMetric\n    from ovseg.queries import Queries", "no circle"),
    ],
)
def test_an_import_across_the_floors_is_found_even_for_type_checking(copy, module, line, broken):
    path = copy / "ovseg" / f"{module}.py"
    text = path.read_text()
    path.write_text(f"{text}\nfrom typing import TYPE_CHECKING\n\nif TYPE_CHECKING:\n    {line}\n")
    try:
        done = lint(copy)
    finally:
        path.write_text(text)
    assert done.returncode == 1
    kept_or_broken = " ".join(done.stdout.split())
    assert "BROKEN" in kept_or_broken
    assert any(broken in part for part in kept_or_broken.split("KEPT") if "BROKEN" in part)
