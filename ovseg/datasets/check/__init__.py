"""Is a data set complete, readable, and what its settings say? (``ovseg data check``)"""

from ovseg.datasets.check.picture import draw_samples
from ovseg.datasets.check.report import CheckReport
from ovseg.datasets.check.run import check_dataset
from ovseg.datasets.check.suspicions import two_valued

__all__ = ["CheckReport", "check_dataset", "draw_samples", "two_valued"]
