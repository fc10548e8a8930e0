"""What a training trains: parameters by patterns of their names."""

from __future__ import annotations

import random
from collections.abc import Sequence
from fnmatch import fnmatchcase

import numpy as np
import torch
from mmengine.dist import get_rank
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.optim import OptimWrapper
from mmengine.runner import Runner
from torch import nn

from ovseg.registry import HOOKS


def select_trained(model: nn.Module, patterns: Sequence[str]) -> dict[str, int]:
    """Let the parameters whose names match train, and no others.

    Args:
        model: any module; parameters that several names lead to go by the first of ``named_parameters()``.
        patterns: shell patterns of whole names, e.g. ``'decoder.*'``, ``'backbone.clip.*.attn.[qv]_proj_weight'``.

    Returns:
        the number of values that each pattern lets train.

    Raises:
        ValueError: for a pattern that matches no parameter.
    """
    counts = dict.fromkeys(patterns, 0)
    for name, parameter in model.named_parameters():
        hits = [pattern for pattern in patterns if fnmatchcase(name, pattern)]
        parameter.requires_grad_(bool(hits))
        for pattern in hits:
            counts[pattern] += parameter.numel()
    without = [pattern for pattern, count in counts.items() if not count]
    if without:
        names = [name for name, _ in model.named_parameters()]
        raise ValueError(f"trained: {without[0]!r} matches no parameter; names are like {names[0]!r}, {names[-1]!r}")
    return counts


def training_plan(optim_wrapper: OptimWrapper, model: nn.Module) -> list[str]:
    """Lines that say how many parameters train, by learning rate and weight decay, and how many are frozen."""
    groups: dict[tuple[float, float], list[int]] = {}
    for group in optim_wrapper.param_groups:
        key = (float(group["lr"]), float(group.get("weight_decay", 0.0)))
        groups.setdefault(key, []).extend(p.numel() for p in group["params"] if p.requires_grad)
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    total = sum(p.numel() for p in model.parameters())
    lines = [f"{trained:,} of {total:,} parameters train"]
    lines += [
        f"  lr {lr:g}, weight decay {decay:g}: {sum(sizes):,} in {len(sizes)} tensors"
        for (lr, decay), sizes in sorted(groups.items(), reverse=True)
        if sizes
    ]
    return lines


def unwrapped(model: nn.Module) -> nn.Module:
    """The model itself where a wrapper for several processes is around it."""
    return model.module if is_model_wrapper(model) else model


@HOOKS.register_module()
class SelfTrainingHook(Hook):
    """From an iteration on a model is its own teacher for what it may not know (its ``self_training``).

    Args:
        begin: first iteration of it, 0-based.
    """

    def __init__(self, begin: int) -> None:
        self.begin = int(begin)

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: object = None) -> None:
        """As told; a training that is resumed has it as one that was not stopped."""
        unwrapped(runner.model).self_training = runner.iter >= self.begin


@HOOKS.register_module()
class TrainingPlanHook(Hook):
    """Say before training what trains (:func:`training_plan`), and refuse a training of nothing."""

    priority = "VERY_HIGH"

    def before_train(self, runner: Runner) -> None:
        """Write the plan to the log.

        Raises:
            ValueError: if no parameter trains.
        """
        if not any(p.requires_grad for p in runner.model.parameters()):
            raise ValueError("no parameter trains: name some in model.trained, e.g. trained=['decoder.*']")
        model = unwrapped(runner.model)
        for line in training_plan(runner.optim_wrapper, model):
            runner.logger.info(line)


@HOOKS.register_module()
class StepSeedHook(Hook):
    """Chance in a training step depends on the seed, the iteration and the process, not on what came before.

    A training that is resumed then draws what one that was not stopped draws (the points that SAN's loss looks at,
    dropout). Every training of ovseg has this hook.
    """

    priority = "VERY_HIGH"

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: object = None) -> None:
        """Seed torch (all devices), NumPy and ``random``."""
        seeds = np.random.SeedSequence([runner.seed, runner.iter, get_rank()]).generate_state(1)
        torch.manual_seed(int(seeds[0]))
        np.random.seed(seeds[0])
        random.seed(int(seeds[0]))
