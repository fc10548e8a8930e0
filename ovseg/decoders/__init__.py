"""Trained decoders: features of images and word embeddings in, maps out."""

from ovseg.decoders.base import Decoder, Features, Prediction
from ovseg.decoders.catseg import CatSegDecoder
from ovseg.decoders.deeplab import DeepLabDecoder
from ovseg.decoders.dense import DenseDecoder
from ovseg.decoders.dense_clip import DenseClipDecoder
from ovseg.decoders.fcclip import FcClipDecoder, MaftPlusDecoder
from ovseg.decoders.framing import CropsAndWhole, Framing, SlidingCrops, WholePhoto
from ovseg.decoders.gradual_fusion import GradualFusionDecoder
from ovseg.decoders.mask_decoder import MaskDecoder
from ovseg.decoders.ovseg import OvSegDecoder
from ovseg.decoders.relation import RelationDecoder
from ovseg.decoders.semantic_groups import SegClipDecoder
from ovseg.decoders.side_adapter import SideAdapterDecoder

__all__ = [
    "CatSegDecoder",
    "CropsAndWhole",
    "Decoder",
    "DeepLabDecoder",
    "DenseClipDecoder",
    "DenseDecoder",
    "FcClipDecoder",
    "Features",
    "Framing",
    "GradualFusionDecoder",
    "MaftPlusDecoder",
    "MaskDecoder",
    "OvSegDecoder",
    "Prediction",
    "RelationDecoder",
    "SegClipDecoder",
    "SideAdapterDecoder",
    "SlidingCrops",
    "WholePhoto",
]
