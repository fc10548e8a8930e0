"""Files of the package that the trainings of nano's parts begin from."""

from __future__ import annotations

from pathlib import Path

ASSETS = Path(__file__).resolve().parents[1] / "assets"


def asset(name: str | Path) -> Path:
    """A file as a config names it: ``'nano/clip.json'`` is the package's wherever it is installed; else a path.

    Raises:
        FileNotFoundError: for neither.
    """
    packaged = ASSETS / name
    if packaged.is_file() and not Path(name).is_absolute():
        return packaged
    if Path(name).is_file():
        return Path(name)
    there_are = ", ".join(sorted(str(p.relative_to(ASSETS)) for p in ASSETS.rglob("*.*") if p.is_file()))
    raise FileNotFoundError(f"{name} is neither a file nor one of the package's ({there_are})")
