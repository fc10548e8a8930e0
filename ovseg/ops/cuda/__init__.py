"""CUDA back-ends: kernels in ``.cu`` files, compiled on the user's machine. See ``docs/cuda.md``."""

from ovseg.ops.cuda import argmax, attention, attention_guided, pamr, regions  # noqa: F401  (they register themselves)
