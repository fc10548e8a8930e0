"""What comes out: the labels of a photo with their words, and what writes them."""

from ovseg.results.images import write_image
from ovseg.results.segmentation import SegmentationResult

__all__ = ["SegmentationResult", "write_image"]
