"""What training needs besides a model: which parameters train, losses."""

from ovseg.training.losses import BinaryMapLoss, SegmentationLoss
from ovseg.training.policy import TrainingPlanHook, select_trained, training_plan

__all__ = ["BinaryMapLoss", "SegmentationLoss", "TrainingPlanHook", "select_trained", "training_plan"]
