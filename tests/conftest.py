"""Tests compare numbers: ``precision="auto"`` is fp32 on every machine, but in the tests of the choice itself."""

import os

os.environ.setdefault("OVSEG_PRECISION", "fp32")
