"""Goldens of trained segmenters: their files, their sampling, stand-in checkpoints, and what happens inside a model.

A golden's folder holds ``<image>.npz`` and ``meta_<image>.json`` (or ``meta.json``), which says of every array its full
shape and how it was sampled; ``compare_trained.py`` beside the goldens reads that.
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import Compose
from mmengine.registry import init_default_scope
from torch import Tensor, nn

from ovseg.registry import MODELS, TRANSFORMS
from tests.parity.cases import CONFIGS, DROP_PIPELINE_STEPS, Golden
from tests.parity.measure import LABEL_BAR, QUERY_BAR, RANGE_BAR, Figure
from tests.standins import PARITY, SHARED, standin_dir


def shared_module(name: str) -> ModuleType:
    """A module of the shared parity folder; skips the calling test where it is absent."""
    folder = next((f for f in (PARITY, SHARED / "parity") if (f / f"{name}.py").is_file()), None)
    if folder is None:
        pytest.skip(f"this golden needs {name}.py in {PARITY} (set OVSEG_SHARED)")
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, folder / f"{name}.py")
        module = importlib.util.module_from_spec(spec)
        sys.path.insert(0, str(folder))  # they import each other
        try:
            spec.loader.exec_module(module)
        finally:
            sys.path.remove(str(folder))
        sys.modules[name] = module
    return sys.modules[name]


def standin_checkpoint(name: str, build: Callable[[], Mapping[str, Tensor]]) -> Path:
    """A stand-in in detectron2's layout (``{"model": ...}``), written at first use; its values are exact in fp16."""
    path = standin_dir() / f"{name}.pth"
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(f".{os.getpid()}.part")
        torch.save({"model": {k: v.half() if v.is_floating_point() else v for k, v in build().items()}}, part)
        os.replace(part, path)
    return path


@dataclass(frozen=True)
class TrainedGolden(Golden):
    """What the official code of a trained segmenter gave for one image."""

    @cached_property
    def meta(self) -> dict[str, Any]:
        own = self.folder / f"meta_{self.image}.json"
        return json.loads((own if own.is_file() else self.folder / "meta.json").read_text())

    def sampled(self, key: str, array: np.ndarray) -> np.ndarray:
        """``array`` of the full shape at what was recorded of it.

        Raises:
            ValueError: if it has another shape than the official code's.
        """
        info = self.meta["arrays"][key]
        if list(array.shape) != info["full_shape"]:
            raise ValueError(f"{self}: {key} has shape {list(array.shape)}, the official code's {info['full_shape']}")
        return array[shared_module("compare_trained").parse(info["sample"])]


def trained_goldens(name: str) -> list[TrainedGolden]:
    """The goldens of one folder, by image; empty where there are none."""
    folder = PARITY / "goldens" / name
    return [TrainedGolden(name, path.stem) for path in sorted(folder.glob("*.npz")) if path.stem != "text"]


def figure(key: str, recorded: np.ndarray, ours: np.ndarray) -> Figure:
    """The figure for one array: text by its entries, labels by agreement, everything else by its range.

    Raises:
        ValueError: if the shapes differ.
    """
    if recorded.shape != ours.shape:
        raise ValueError(f"{key}: the golden has shape {recorded.shape}, ovseg {ours.shape}")
    if key == "argmax":
        return Figure(key, "agreement", float((recorded == ours).mean()), LABEL_BAR)
    recorded, ours = recorded.astype(np.float64), ours.astype(np.float64)
    largest = float(np.abs(recorded - ours).max())
    if key == "text":
        return Figure(key, "difference", largest, QUERY_BAR)
    return Figure(key, "of range", largest / (np.ptp(recorded) + 1e-12), RANGE_BAR)


def build(config_path: str, checkpoint: Path, change: Callable[[Config], None] | None = None) -> tuple[Any, Config]:
    """The model of a config with both its parts read from one checkpoint, in evaluation mode."""
    init_default_scope("ovseg")
    config = Config.fromfile(CONFIGS / config_path)
    model = config.model
    model.backbone.checkpoint = model.decoder.checkpoint = str(checkpoint)
    model.backbone.precision, model.text_cache = "fp32", False
    if change is not None:
        change(config)
    return MODELS.build(model).eval(), config


def photo_of(model: Any, config: Config, golden: TrainedGolden) -> Any:
    """The golden's photo, made ready by the config's own data pipeline."""
    steps = [s for s in config.test_dataloader.dataset.pipeline if s["type"] not in DROP_PIPELINE_STEPS]
    item = Compose([TRANSFORMS.build(step) for step in steps])(dict(img_path=str(golden.photo)))
    return model.prepare(item["inputs"], tuple(item["data_samples"].ori_shape[:2]))


def labels_of(golden: TrainedGolden) -> np.ndarray:
    """The golden's label map ``[H, W]``."""
    return cv2.imread(str(golden.folder / f"{golden.image}_argmax.png"), cv2.IMREAD_UNCHANGED)


@contextmanager
def outputs_of(modules: Mapping[str, nn.Module]) -> Iterator[dict[str, list[Any]]]:
    """What modules give while this is open, call by call; tensors as they were then, whatever is written into them."""
    kept: dict[str, list[Any]] = {name: [] for name in modules}

    def keep(name: str) -> Callable:
        def note(module: nn.Module, inputs: Any, output: Any) -> None:
            kept[name].append(output.clone() if isinstance(output, Tensor) else output)

        return note

    handles = [module.register_forward_hook(keep(name)) for name, module in modules.items()]
    try:
        yield kept
    finally:
        for handle in handles:
            handle.remove()
