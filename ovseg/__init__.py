"""ovseg: open-vocabulary semantic segmentation. A photo and a list of words in, a class for every pixel out."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ovseg.apis import Segmenter
    from ovseg.results import SegmentationResult
    from ovseg.text import Vocabulary

__version__ = "0.1.0"
__all__ = ["SegmentationResult", "Segmenter", "Vocabulary", "__version__"]

_LAZY = {"Segmenter": "ovseg.apis", "SegmentationResult": "ovseg.results", "Vocabulary": "ovseg.text"}


def __getattr__(name: str):
    # importing torch and open_clip takes seconds; `python -m ovseg --help` should not
    if name in _LAZY:
        from importlib import import_module

        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'ovseg' has no attribute {name!r}")
