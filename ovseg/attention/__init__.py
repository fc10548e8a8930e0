"""Attentions: how a method runs CLIP's last block."""

from ovseg.attention.base import LastBlockAttention
from ovseg.attention.calibrated import CalibratedAttention
from ovseg.attention.declip import DeclipAttention
from ovseg.attention.decomposition import DecomposedAttention, Decomposition, decompose
from ovseg.attention.dinoiser import DinoiserAttention
from ovseg.attention.fused import FusedAttention
from ovseg.attention.head_cleaning import HeadCleaning
from ovseg.attention.head_proxy import HeadProxyAttention
from ovseg.attention.intermediate import IntermediateAttention
from ovseg.attention.plain import PlainAttention, ValueAttention
from ovseg.attention.proxy import ProxyAttention
from ovseg.attention.region import RegionAttention
from ovseg.attention.residual import ResidualAttention
from ovseg.attention.self_correlation import SelfCorrelationAttention
from ovseg.attention.self_recursive import SelfRecursiveAttention
from ovseg.attention.self_self import NeighbourAttention, SelfSelfAttention

__all__ = [
    "CalibratedAttention",
    "DeclipAttention",
    "DecomposedAttention",
    "Decomposition",
    "DinoiserAttention",
    "FusedAttention",
    "HeadCleaning",
    "HeadProxyAttention",
    "IntermediateAttention",
    "LastBlockAttention",
    "NeighbourAttention",
    "PlainAttention",
    "ProxyAttention",
    "RegionAttention",
    "ResidualAttention",
    "SelfCorrelationAttention",
    "SelfRecursiveAttention",
    "SelfSelfAttention",
    "ValueAttention",
    "decompose",
]
