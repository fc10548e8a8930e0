"""Refiners: scores -> better scores, or labels -> better labels; registered in `ovseg.registry.REFINERS`."""

from ovseg.refiners.closing import LabelClosing
from ovseg.refiners.cluster_vote import ClusterVote
from ovseg.refiners.dense_crf import DenseCRF
from ovseg.refiners.pamr import PAMR
from ovseg.refiners.pixel_graph import PixelPropagation
from ovseg.refiners.region_vote import RegionVote
from ovseg.refiners.sam_prompt import SamPromptRefiner

__all__ = [
    "PAMR",
    "ClusterVote",
    "DenseCRF",
    "LabelClosing",
    "PixelPropagation",
    "RegionVote",
    "SamPromptRefiner",
]
