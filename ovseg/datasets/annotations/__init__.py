"""Ground truth that is no picture of class indices: colours, and the files of annotation tools.

A data set names one with ``annotations=dict(type=...)``; each turns its files into class indices by the classes' names.
"""

from ovseg.datasets.annotations.base import Annotations
from ovseg.datasets.annotations.coco import CocoAnnotations
from ovseg.datasets.annotations.colours import ColourMasks, read_colour_table
from ovseg.datasets.annotations.labelme import LabelMeFiles
from ovseg.datasets.annotations.supervisely import SuperviselyFiles

__all__ = ["Annotations", "CocoAnnotations", "ColourMasks", "LabelMeFiles", "SuperviselyFiles", "read_colour_table"]
