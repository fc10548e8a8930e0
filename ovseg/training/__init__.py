"""What training needs besides a model: which parameters train and how, losses, words."""

from ovseg.training.ensemble import WeightEnsembleHook
from ovseg.training.losses import BinaryMapLoss, FocalDiceLoss, PixelLoss, SegmentationLoss
from ovseg.training.mask_aware_loss import MaskAwareLoss
from ovseg.training.mask_loss import MaskSetLoss
from ovseg.training.optim import TrainedParameters
from ovseg.training.policy import SelfTrainingHook, TrainingPlanHook, select_trained, training_plan
from ovseg.training.words import choose_words, pseudo_labelled, renumbered

__all__ = [
    "BinaryMapLoss",
    "FocalDiceLoss",
    "MaskAwareLoss",
    "MaskSetLoss",
    "PixelLoss",
    "SegmentationLoss",
    "SelfTrainingHook",
    "TrainedParameters",
    "TrainingPlanHook",
    "WeightEnsembleHook",
    "choose_words",
    "pseudo_labelled",
    "renumbered",
    "select_trained",
    "training_plan",
]
