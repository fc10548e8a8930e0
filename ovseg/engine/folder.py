"""A folder of one's own photos and label maps as the data of a config: its key ``folder``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from mmengine.config import Config

from ovseg.datasets import SegmentationDataset
from ovseg.errors import SetupError

PHOTO_ENDINGS = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif")
LOADERS = ("train_dataloader", "val_dataloader", "test_dataloader")
_KEYS = ("root", "classes", "images", "masks", "hold_back")


def set_folder(cfg: Config) -> None:
    """Write the config's ``folder`` into its data sets and its model's words, in place.

    ``folder = dict(root=..., classes=..., images="images", masks="masks", hold_back=10)``: photos in ``root/images``,
    label maps of the same names (PNG, class indices, 255 is ignored) in ``root/masks``, ``classes`` a class file or
    names. Where ``root`` has a ``train.txt`` and a ``val.txt`` (names without endings), these say what is trained on
    and what is judged; else every tenth photo (``hold_back``) is held back and judged.

    Raises:
        SetupError: for a key that nothing reads, names that are missing, or too few photos.
        DatasetNotFound: for a folder that is missing or holds no photos.
    """
    folder = cfg.get("folder")
    if folder is None:
        return
    if not isinstance(folder, Mapping) or set(folder) - set(_KEYS):
        raise SetupError(
            f"folder is {folder!r}; write dict(root=..., classes=...), with {', '.join(_KEYS[2:])} as wanted"
        )
    root, classes = folder.get("root"), folder.get("classes")
    if not root or not classes:
        raise SetupError("folder needs root=DIR and classes=FILE: --cfg-options folder.root=DIR folder.classes=FILE")
    root = Path(root)
    own = dict(
        classes=classes,
        data_root=str(root),
        img_dir=folder.get("images", "images"),
        mask_dir=folder.get("masks", "masks"),
        img_suffix=PHOTO_ENDINGS,
    )
    splits = {name: root / f"{name}.txt" for name in ("train", "val")}
    if all(path.is_file() for path in splits.values()):
        parts = {name: dict(split=path.name) for name, path in splits.items()}
    else:
        parts = _split(own, int(folder.get("hold_back", 10)))
    for name in LOADERS:
        loader = cfg.get(name)
        if loader:
            loader.dataset.update(own)
            loader.dataset.update(parts["train" if name == "train_dataloader" else "val"])
    cfg.model.vocabulary = dict(file=str(classes)) if isinstance(classes, str | Path) else dict(names=list(classes))


def _split(own: Mapping[str, object], hold_back: int) -> dict[str, dict]:
    count = len(SegmentationDataset(**own))
    if count < 2 or hold_back < 2:
        raise SetupError(
            f"folder: {count} photos in {own['data_root']}, of which one in {hold_back} is held back: give at least 2 "
            "photos and hold_back from 2, or train.txt and val.txt"
        )
    held = list(range(hold_back // 2, count, hold_back)) or [count - 1]
    kept = [index for index in range(count) if index not in set(held)]
    return {"train": dict(indices=kept), "val": dict(indices=held)}
