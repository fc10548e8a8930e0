"""Tests compare numbers: ``precision="auto"`` is fp32 on every machine and models run on the CPU, but in the tests of
these choices themselves; tests that ask for a GPU (``tests/test_gpu.py``, ``tests/ops``) name it."""

import os
from pathlib import Path

import pytest

os.environ.setdefault("OVSEG_PRECISION", "fp32")
os.environ.setdefault("OVSEG_DEVICE", "cpu")


@pytest.fixture
def shared_data() -> Path:
    """Folder with the real photos that are not part of the repository."""
    root = Path(os.environ.get("OVSEG_SHARED", Path(__file__).parents[2] / "shared")) / "data"
    if not root.is_dir():
        pytest.skip(f"no real photos at {root} (OVSEG_SHARED)")
    return root
