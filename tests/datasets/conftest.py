import os
from pathlib import Path

import pytest


@pytest.fixture
def shared_data() -> Path:
    """Folder with the real photos that are not part of the repository."""
    root = Path(os.environ.get("OVSEG_SHARED", Path(__file__).parents[3] / "shared")) / "data"
    if not root.is_dir():
        pytest.skip(f"no real photos at {root} (OVSEG_SHARED)")
    return root
