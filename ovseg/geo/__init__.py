"""Large scenes with a place on Earth: chosen bands, stretched, read in tiles, and label maps with the same place.

Needs rasterio: ``pip install 'ovseg[geo]'``.
"""

from ovseg.geo.labels import Tiling, segment_scene
from ovseg.geo.scene import Scene

__all__ = ["Scene", "Tiling", "segment_scene"]
