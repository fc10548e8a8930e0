"""Trained decoders: features of images and word embeddings in, maps out."""

from ovseg.decoders.base import Decoder, Features, Prediction
from ovseg.decoders.catseg import CatSegDecoder
from ovseg.decoders.framing import CropsAndWhole, Framing, WholePhoto

__all__ = ["CatSegDecoder", "CropsAndWhole", "Decoder", "Features", "Framing", "Prediction", "WholePhoto"]
