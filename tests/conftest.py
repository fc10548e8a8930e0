"""Tests compare numbers: ``precision="auto"`` is fp32 on every machine and models run on the CPU, but in the tests of
these choices themselves; tests that ask for a GPU (``tests/test_gpu.py``, ``tests/ops``) name it."""

import os
from pathlib import Path

import pytest

os.environ.setdefault("OVSEG_PRECISION", "fp32")
os.environ.setdefault("OVSEG_DEVICE", "cpu")

WORKER_BYTES = 6 << 30
"""Memory one worker of `-n auto` may take: the parity tests hold up to 4 GiB."""

if "PYTEST_XDIST_WORKER_COUNT" in os.environ:  # before torch is imported: workers share the cores
    share = (os.cpu_count() or 1) // int(os.environ["PYTEST_XDIST_WORKER_COUNT"])
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, share)))


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """As many workers as there are cores and memory for, at most 8."""
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return max(1, min(len(os.sched_getaffinity(0)), memory // WORKER_BYTES, 8))


@pytest.fixture
def shared_data() -> Path:
    """Folder with the real photos that are not part of the repository."""
    root = Path(os.environ.get("OVSEG_SHARED", Path(__file__).parents[2] / "shared")) / "data"
    if not root.is_dir():
        pytest.skip(f"no real photos at {root} (OVSEG_SHARED)")
    return root
