"""A method's config with another data set and other words in it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from mmengine.config import Config, ConfigDict

from ovseg.datasets.class_names import load_class_names
from ovseg.errors import SetupError

_BACKGROUND = {"background", "unlabeled", "unlabelled", "void"}


def use_dataset(cfg: Config, dataset: Mapping[str, object], vocabulary: object = None) -> list[str]:
    """Put a data set and its words into a config, in place; resolution and pipeline stay those of the config.

    Args:
        cfg: of a method, with a ``test_dataloader``.
        dataset: config of the data set without a pipeline, see :func:`ovseg.datasets.folder.folder_dataset`.
        vocabulary: words of the classes, as ``model.vocabulary`` takes them; ``None``: the class file or the names.

    Returns:
        what else had to be changed, one sentence each.

    Raises:
        SetupError: for a config that has no test data set or no model.
    """
    if not cfg.get("test_dataloader") or not cfg.get("model"):
        raise SetupError(f"config {cfg.filename} has no model or test_dataloader: it is no evaluation of a method")
    pipeline = cfg.test_dataloader.dataset.get("pipeline") or []
    cfg.test_dataloader.dataset = ConfigDict(**dataset, pipeline=pipeline)
    classes = dataset["classes"]
    names = load_class_names(classes)
    cfg.num_classes = len(names)
    told = []
    place = next((i for i, name in enumerate(names) if name.lower() in _BACKGROUND), None)
    if vocabulary is None:
        is_file = isinstance(classes, str) and Path(classes).is_file()
        vocabulary = dict(file=classes) if is_file else dict(names=list(names))
    elif isinstance(vocabulary, str):
        vocabulary = dict(file=vocabulary)
    if place is not None and isinstance(vocabulary, dict):
        vocabulary = {"background": place, **vocabulary}
    if "vocabulary" in cfg.model:
        cfg.model.pop("vocabulary")  # a merge would keep the other one's settings
        cfg.model.vocabulary = ConfigDict(vocabulary) if isinstance(vocabulary, Mapping) else vocabulary
    head = cfg.model.get("head")
    has_background = isinstance(vocabulary, Mapping) and vocabulary.get("background") is not None
    if isinstance(head, Mapping) and not has_background:
        for key in ("threshold", "area_threshold"):
            if head.get(key):
                told.append(
                    f"{key}={head[key]} of the method is off: it gives pixels to a background, and there is none"
                )
                head[key] = 0.0
    return told
