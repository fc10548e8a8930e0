"""Errors of the person at the keyboard, told in one line by the tools."""

from __future__ import annotations

import tokenize
import zipfile
import zlib

DAMAGED_ARRAYS = (
    OSError,
    ValueError,
    KeyError,
    IndexError,
    TypeError,
    AttributeError,
    EOFError,
    MemoryError,
    OverflowError,
    SyntaxError,
    NotImplementedError,
    RuntimeError,
    zlib.error,
    zipfile.BadZipFile,
    tokenize.TokenError,
)
"""What ``numpy.load`` was seen to raise for damaged ``.npy`` and ``.npz`` files; a header is parsed as Python."""


class SetupError(ValueError):
    """What was asked for cannot be run: a config, checkpoint or saved state that does not fit. Says what to change."""


class NotFinite(SetupError):
    """Scores of a photo that hold NaN or infinite values: no class can be told from them."""


class ComponentError(SetupError):
    """A component of a config that does not exist, gets arguments it does not have, or refuses their values."""
