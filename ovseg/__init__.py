"""ovseg: open-vocabulary semantic segmentation. A photo and a list of words in, a class for every pixel out."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ovseg.apis import Segmenter, load
    from ovseg.encoded import EncodedImage, FailedPhoto
    from ovseg.results import SegmentationResult
    from ovseg.text import Vocabulary

__version__ = "0.1.0"
__all__ = ["EncodedImage", "FailedPhoto", "SegmentationResult", "Segmenter", "Vocabulary", "__version__", "load"]

_LAZY = {
    "EncodedImage": "ovseg.encoded",
    "FailedPhoto": "ovseg.encoded",
    "SegmentationResult": "ovseg.results",
    "Segmenter": "ovseg.apis",
    "Vocabulary": "ovseg.text",
    "load": "ovseg.apis",
}


def __getattr__(name: str):
    # importing torch and open_clip takes seconds; `ovseg --help` should not
    if name in _LAZY:
        from importlib import import_module

        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'ovseg' has no attribute {name!r}")
