"""Stitches: what is computed per window, and how a photo's windows become its score map."""

from ovseg.stitches.affinity import AffinityStitch, ContributionStitch, LayerwiseStitch
from ovseg.stitches.average import ScoreStitch
from ovseg.stitches.splice import FeatureSplice

__all__ = ["AffinityStitch", "ContributionStitch", "FeatureSplice", "LayerwiseStitch", "ScoreStitch"]
