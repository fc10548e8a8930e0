"""From official downloads to the layouts that the benchmark configs read (``tools/prepare_data.py``)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ovseg.datasets.convert.ade847 import ade847_jobs
from ovseg.datasets.convert.archive import UnsafeArchive, extract
from ovseg.datasets.convert.cityscapes import cityscapes_jobs
from ovseg.datasets.convert.coco import coco_object_jobs, coco_stuff10k_jobs, coco_stuff_jobs
from ovseg.datasets.convert.context import context_jobs, pc459_jobs
from ovseg.datasets.convert.jobs import ConversionError, Job, run_jobs
from ovseg.datasets.convert.mess import MESS_CONVERTERS

CONVERTERS: dict[str, Callable[[Path], list[Job]]] = {
    "context": context_jobs,
    "coco_object": coco_object_jobs,
    "coco_stuff": coco_stuff_jobs,
    "coco_stuff10k": coco_stuff10k_jobs,
    "cityscapes": cityscapes_jobs,
    "ade847": ade847_jobs,
    "pc459": pc459_jobs,
    **MESS_CONVERTERS,
}
"""Name -> function from the data root to the files that are to be made."""

__all__ = ["CONVERTERS", "ConversionError", "Job", "UnsafeArchive", "extract", "run_jobs"]
