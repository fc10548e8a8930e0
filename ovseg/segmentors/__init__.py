"""Segmentors: models that turn photos and words into labels."""

from ovseg.segmentors.decoder import DecoderSegmentor
from ovseg.segmentors.dinoiser_training import DinoiserTrainer
from ovseg.segmentors.open_vocab import OpenVocabSegmentor
from ovseg.segmentors.sam_clip import SamClipSegmentor

__all__ = ["DecoderSegmentor", "DinoiserTrainer", "OpenVocabSegmentor", "SamClipSegmentor"]
