"""Published weights: what exists, where it is had from, and how it is read safely."""

from .catalogue import Source, WeightCard, catalogue, get_card
from .errors import CheckpointError, DownloadError, UnknownWeights, WeightsError, WeightsNotFound
from .hashes import cache_dir, file_sha256
from .load import Loaded, LoadedClip, load_clip, load_decoder, load_dino, load_heads, load_sam
from .reading import load_state_dict, read_checkpoint
from .resolve import known_sha256, resolve

__all__ = [
    "CheckpointError",
    "DownloadError",
    "Loaded",
    "LoadedClip",
    "Source",
    "UnknownWeights",
    "WeightCard",
    "WeightsError",
    "WeightsNotFound",
    "cache_dir",
    "catalogue",
    "file_sha256",
    "get_card",
    "known_sha256",
    "load_clip",
    "load_decoder",
    "load_dino",
    "load_heads",
    "load_sam",
    "load_state_dict",
    "read_checkpoint",
    "resolve",
]
