"""Tests compare numbers: ``precision="auto"`` is fp32 on every machine, but in the tests of the choice itself."""

import os
from pathlib import Path

import pytest

os.environ.setdefault("OVSEG_PRECISION", "fp32")


@pytest.fixture
def shared_data() -> Path:
    """Folder with the real photos that are not part of the repository."""
    root = Path(os.environ.get("OVSEG_SHARED", Path(__file__).parents[2] / "shared")) / "data"
    if not root.is_dir():
        pytest.skip(f"no real photos at {root} (OVSEG_SHARED)")
    return root
