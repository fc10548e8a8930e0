"""Weights between an original and what training made of it."""

from __future__ import annotations

from pathlib import Path

from mmengine.dist import master_only
from mmengine.hooks import Hook
from mmengine.runner import Runner
from safetensors.torch import save_file

from ovseg.registry import HOOKS
from ovseg.training.policy import unwrapped


@HOOKS.register_module()
class WeightEnsembleHook(Hook):
    """After every epoch, save ``alpha`` of the trained weights and the rest of the original's (DeCLIP, WiSE-FT).

    Training goes on from the trained weights. The files, ``ensemble_epoch_N.safetensors`` in the work directory, have
    open_clip's keys: give one as the ``checkpoint`` of a ``ClipBackbone`` with the original's name.

    Args:
        alpha: share of the trained weights, 0..1; the model's ``ensemble(alpha)`` mixes them.

    Raises:
        ValueError: for another share.
    """

    def __init__(self, alpha: float) -> None:
        if not 0 <= alpha <= 1:
            raise ValueError(f"alpha is {alpha}; give the share of the trained weights, between 0 and 1")
        self.alpha = float(alpha)

    @master_only
    def after_train_epoch(self, runner: Runner) -> None:
        """Write the file of the epoch that has ended."""
        model = unwrapped(runner.model)
        weights = {key: value.detach().cpu().contiguous() for key, value in model.ensemble(self.alpha).items()}
        path = Path(runner.work_dir) / f"ensemble_epoch_{runner.epoch + 1}.safetensors"
        save_file(weights, path, metadata={"alpha": str(self.alpha)})
        runner.logger.info(f"{self.alpha:g} of the trained weights and {1 - self.alpha:g} of the original: {path}")
