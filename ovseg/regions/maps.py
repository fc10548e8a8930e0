"""The old place of what is done to region maps."""

from ovseg._moved import moved

__getattr__ = moved(__name__, {name: "ovseg.region_maps" for name in ("PAD_REGION", "paint_masks", "resize_regions")})
