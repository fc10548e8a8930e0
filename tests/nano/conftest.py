"""Twelve small sprites that scenes can be made of without the network."""

from pathlib import Path

import numpy as np
import pytest

from ovseg.nano import sprites as sprite_files

FIXTURES = Path(__file__).parent / "fixtures" / "sprites"


@pytest.fixture(scope="session")
def sprites() -> dict[str, np.ndarray]:
    return sprite_files.load(FIXTURES)
