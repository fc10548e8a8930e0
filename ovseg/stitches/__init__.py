"""Stitches: what is computed per window, and how a photo's windows become its score map."""

from ovseg.stitches.affinity import AffinityStitch, ContributionStitch, LayerwiseStitch
from ovseg.stitches.alias import AliasStitch
from ovseg.stitches.average import ScoreStitch
from ovseg.stitches.class_token import ClassTokenStitch
from ovseg.stitches.feedback import FeedbackStitch
from ovseg.stitches.graph import GraphStitch
from ovseg.stitches.retrieval import RetrievalStitch
from ovseg.stitches.softmax import SoftmaxStitch
from ovseg.stitches.splice import FeatureSplice, SelfAggregatedSplice
from ovseg.stitches.upsampled import UpsampledStitch

__all__ = [
    "AffinityStitch",
    "AliasStitch",
    "ClassTokenStitch",
    "ContributionStitch",
    "FeatureSplice",
    "FeedbackStitch",
    "GraphStitch",
    "LayerwiseStitch",
    "RetrievalStitch",
    "ScoreStitch",
    "SelfAggregatedSplice",
    "SoftmaxStitch",
    "UpsampledStitch",
]
