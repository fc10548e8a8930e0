"""What training needs besides a model: which parameters train, losses."""

from ovseg.training.ensemble import WeightEnsembleHook
from ovseg.training.losses import BinaryMapLoss, PixelLoss, SegmentationLoss
from ovseg.training.mask_aware_loss import MaskAwareLoss
from ovseg.training.mask_loss import MaskSetLoss
from ovseg.training.policy import TrainingPlanHook, select_trained, training_plan

__all__ = [
    "BinaryMapLoss",
    "MaskAwareLoss",
    "MaskSetLoss",
    "PixelLoss",
    "SegmentationLoss",
    "TrainingPlanHook",
    "WeightEnsembleHook",
    "select_trained",
    "training_plan",
]
