"""Regions: which pixels belong together, from masks, superpixels or any function."""

from ovseg.regions.base import CallableRegions, RegionSource
from ovseg.regions.cache import CachedRegions
from ovseg.regions.encoders import (
    AlphaChannel,
    BlurReverse,
    FovealAttention,
    MaskedCrop,
    MaskPooling,
    RedCircle,
    RegionCrop,
)
from ovseg.regions.felzenszwalb import FelzenszwalbRegions
from ovseg.regions.loading import LoadRegions
from ovseg.regions.mask_prompts import MaskPromptedCrop
from ovseg.regions.sam import SamMasks
from ovseg.regions.slic import SlicRegions
from ovseg.regions.superpixels import Superpixels
from ovseg.regions.transformers import PanopticMasks, Sam2Masks

__all__ = [
    "AlphaChannel",
    "BlurReverse",
    "CachedRegions",
    "CallableRegions",
    "FelzenszwalbRegions",
    "FovealAttention",
    "LoadRegions",
    "MaskPooling",
    "MaskPromptedCrop",
    "MaskedCrop",
    "PanopticMasks",
    "RedCircle",
    "RegionCrop",
    "RegionSource",
    "Sam2Masks",
    "SamMasks",
    "SlicRegions",
    "Superpixels",
]
