"""Backbones: CLIP vision towers behind one small interface."""

from ovseg.backbones.clip import ClipBackbone
from ovseg.backbones.convnext import ConvNextClip, ConvNextTower
from ovseg.backbones.dino import DinoBackbone
from ovseg.backbones.dinotxt import DinoTxtBackbone
from ovseg.backbones.guide_cache import CachedGuide
from ovseg.backbones.photo_guide import PhotoGuide
from ovseg.backbones.radio import RadioBackbone
from ovseg.backbones.radio_sam import RadioSamBackbone
from ovseg.backbones.sam import SamBackbone
from ovseg.backbones.sam_clip import SamClipBackbone
from ovseg.backbones.stem_guide import StemGuide
from ovseg.backbones.text_map import TextMappedBackbone
from ovseg.backbones.towers import EvaTower, OpenClipTower, TimmTower, VisionTower, build_tower
from ovseg.backbones.two_towers import TwoTowerBackbone

__all__ = [
    "CachedGuide",
    "ClipBackbone",
    "ConvNextClip",
    "ConvNextTower",
    "DinoBackbone",
    "DinoTxtBackbone",
    "EvaTower",
    "OpenClipTower",
    "PhotoGuide",
    "RadioBackbone",
    "RadioSamBackbone",
    "SamBackbone",
    "SamClipBackbone",
    "StemGuide",
    "TextMappedBackbone",
    "TimmTower",
    "TwoTowerBackbone",
    "VisionTower",
    "build_tower",
]
