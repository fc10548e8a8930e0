"""Segmentors: models that turn photos and words into labels."""

from ovseg.segmentors.declip_training import DeclipTrainer
from ovseg.segmentors.decoder import DecoderSegmentor
from ovseg.segmentors.dense_clip import DenseClipSegmentor
from ovseg.segmentors.dinoiser_training import DinoiserTrainer
from ovseg.segmentors.mask import MaskSegmentor
from ovseg.segmentors.mask_adaptation import MaskAdaptationTrainer
from ovseg.segmentors.open_vocab import OpenVocabSegmentor
from ovseg.segmentors.pseudo_labels import PseudoLabelTrainer
from ovseg.segmentors.sam_clip import SamClipSegmentor
from ovseg.segmentors.sam_clip_training import SamClipTrainer
from ovseg.segmentors.segclip import SegClipSegmentor

__all__ = [
    "DeclipTrainer",
    "DecoderSegmentor",
    "DenseClipSegmentor",
    "DinoiserTrainer",
    "MaskAdaptationTrainer",
    "MaskSegmentor",
    "OpenVocabSegmentor",
    "PseudoLabelTrainer",
    "SamClipSegmentor",
    "SamClipTrainer",
    "SegClipSegmentor",
]
