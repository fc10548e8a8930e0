"""A method on a benchmark's settings, ready to run on one photo."""

from __future__ import annotations

import os
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import Compose
from mmengine.registry import init_default_scope
from torch import Tensor

from ovseg.apis import config_root
from ovseg.datasets.io import read_image
from ovseg.engine import set_short_side
from ovseg.regions.slic import SlicRegions
from ovseg.registry import MODELS, TRANSFORMS
from ovseg.segmentors import OpenVocabSegmentor
from tools.benchmarking.standins import standin, standin_bank

PAPER_METHODS = ("maskclip", "sclip", "naclip_pamr", "proxyclip", "corrclip", "trident")
VARIANTS = {
    "sclip-photo": ("sclip", dict(attention=dict(scope="photo"))),
    "proxyclip-photo": ("proxyclip", dict(attention=dict(scope="photo"))),
    "corrclipv2-bank": ("corrclipv2", dict(stitch=dict(type="RetrievalStitch", bank="standin"))),
}
"""Variants of methods that have no config of their own: whose config, and what is changed in the model."""
ENCODERS = ("vitb16", "vitb14", "vitl16")
"""Names of encoders in configs' names, the first that a method has counts."""
STANDIN_SIZES = {"dinov3/vitl16": "dinov3/vitb16", "webli/ViT-gopt-16-SigLIP2-384": "openai/ViT-B-16"}
"""Architectures that stand-in weights replace by smaller ones: ViT-L, which dino.txt and VIP are published with, by
ViT-B, and the text tower of a giant, which measures nothing here."""
SIZES = {"voc21": (375, 500), "cityscapes": (1024, 2048)}
"""Height and width of the benchmark's usual photo."""
TEMPLATES = ["a photo of a {}."]
"""One template in place of 80: text is encoded once per vocabulary and is no part of what is measured."""
FILES = dict(weights="checkpoint", text="text_checkpoint", text_map="map_checkpoint", language="language_checkpoint")
"""Arguments of an encoder that name weights, and those that name a file in their place."""
SEGMENTS = 40
"""Regions of a photo where a method wants them given; SAM finds some dozens."""


@dataclass
class Job:
    """What a run needs.

    Attributes:
        name: method and benchmark, e.g. ``sclip_voc21``.
        model: the segmentor with its vocabulary.
        pipeline: the config's data pipeline without label maps: ``dict(img_path=...)`` to the model's inputs.
        photo: path of the photo.
        item: what the pipeline gives for it, with region ids where the method wants them.
    """

    name: str
    model: OpenVocabSegmentor
    pipeline: Compose
    photo: Path
    item: dict

    @property
    def size(self) -> tuple[int, int]:
        """``(H, W)`` of the photo."""
        return tuple(self.item["data_samples"].ori_shape[:2])

    def load(self) -> None:
        """Read the photo again, through the data pipeline."""
        regions = {key: self.item[key] for key in ("regions",) if key in self.item}
        self.item = self.pipeline(dict(img_path=str(self.photo))) | regions

    def predict(self) -> Tensor:
        """Labels ``[H, W]`` of the photo, from the loaded item on."""
        model, item = self.model, self.item
        photo = model.prepare(item["inputs"], self.size, item.get("original"), item.get("regions"))
        return model.predict([photo])[0]


def config_of(method: str, benchmark: str) -> Path:
    """The config file of a method on a benchmark with ViT-B/16, or the nearest to it that the method has.

    Where a method has no background class and so no VOC21 (RADSeg), VOC20's is taken. A variant's file is written to a
    temporary folder.

    Raises:
        ValueError: where there is none.
    """
    if method in VARIANTS:
        base, changes = VARIANTS[method]
        whole = config_of(base, benchmark)
        path = Path(tempfile.gettempdir()) / f"ovseg-benchmark-configs-{os.getuid()}" / whole.name.replace(base, method)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"_base_ = [{str(whole)!r}]\nmodel = {changes!r}\n", encoding="utf-8")
        return path
    benchmarks = (benchmark, "voc20") if benchmark == "voc21" else (benchmark,)
    names = [f"{method}_{encoder}_{b}.py" for b in benchmarks for encoder in ENCODERS]
    path = next((found for name in names for found in config_root().glob(f"*/{name}")), None)
    if path is None:
        raise ValueError(f"no config {names[0]}; give a method with a ViT-B/16 config, or the path of a config")
    return path


def load_config(path: str | Path, precision: str | None = None, weights: str = "standin") -> Config:
    """A method's config with the benchmark's weights and precision put in.

    Args:
        path: config file.
        precision: of CLIP, guide and photo encoder; ``None``: as in the config.
        weights: ``'standin'``: random numbers in the official architectures; ``'real'``: the catalogue's.
    """
    config = Config.fromfile(path)
    set_short_side(config)
    model = config.model
    guide = model.get("guide")
    guide = guide.get("source", guide) if guide else None  # a guide of photo scope holds another one
    parts = [part for part in (model.backbone, guide, model.get("photo_encoder")) if part]
    for part in parts:
        if precision:
            part.precision = precision
        if weights == "standin" and not str(part.weights).startswith("nano"):
            for name, file in FILES.items():
                if part.get(name):
                    part[name] = STANDIN_SIZES.get(part[name], part[name])
                    part[file] = str(standin(part[name]))
    if weights == "standin":
        heads = model.attention.get("heads")
        if heads:
            model.attention.checkpoint = str(standin(heads))
        stitch = model.get("stitch") or {}
        if stitch.get("upsampler"):
            stitch.checkpoint = str(standin(stitch.upsampler))
        if stitch.get("bank"):
            stitch.bank = str(standin_bank())
        if not str(model.backbone.weights).startswith("nano"):
            model.templates = TEMPLATES
    model.regions = None
    return config


def build_job(
    path: str | Path,
    photo: Path,
    precision: str | None = None,
    weights: str = "standin",
    device: str | torch.device = "cpu",
) -> Job:
    """Build a config's model and load the photo.

    Args:
        path: config file.
        photo: image file.
        precision, weights: see :func:`load_config`.
        device: where the model runs.
    """
    init_default_scope("ovseg")
    wants_regions = Config.fromfile(path).model.get("regions") is not None
    config = load_config(path, precision, weights)
    steps = [s for s in config.test_dataloader.dataset.pipeline if s["type"] not in ("LoadMask", "LoadRegions")]
    pipeline = Compose([TRANSFORMS.build(step) for step in steps])
    item = pipeline(dict(img_path=str(photo)))
    if wants_regions:
        item["regions"] = torch.from_numpy(given_regions(read_image(photo)))
    model = MODELS.build(config.model).to(device).eval()
    return Job(re.sub(r"_vit[bl]\d\d", "", Path(path).stem), model, pipeline, Path(photo), item)


def given_regions(image: np.ndarray) -> np.ndarray:
    """Region ids int32 ``[H, W]`` in place of SAM's masks: superpixels of a small copy, about :data:`SEGMENTS`."""
    height, width = image.shape[:2]
    factor = min(1.0, 256 / min(height, width))
    small = cv2.resize(image, (max(1, round(width * factor)), max(1, round(height * factor))))
    source = SlicRegions(segments=SEGMENTS)
    masks = source.masks(small)
    ids = np.zeros(small.shape[:2], np.int32)
    for index, mask in enumerate(masks, start=1):
        ids[mask] = index
    return cv2.resize(ids, (width, height), interpolation=cv2.INTER_NEAREST)


def scene_photo(size: tuple[int, int], folder: Path) -> Path:
    """A photo of a wanted size, put together from the embedded scenes; written to ``folder``.

    Args:
        size: ``(height, width)``.

    Raises:
        FileNotFoundError: without the embedded scenes (they are in a checkout, not in a wheel).
    """
    path = folder / f"scene_{size[0]}x{size[1]}.png"
    if path.is_file():
        return path
    source = config_root().parent / "data" / "scenes" / "scenes" / "images"
    files = sorted(source.glob("*.jpg"))
    if not files:
        raise FileNotFoundError(f"no embedded scenes under {source}: give --photo")
    rows, columns = max(1, round(size[0] / 375)), max(1, round(size[1] / 500))
    images = [cv2.imread(str(file)) for file in files[: rows * columns]]
    images = [
        cv2.resize(i, (-(-size[1] // columns), -(-size[0] // rows)), interpolation=cv2.INTER_CUBIC) for i in images
    ]
    mosaic = np.vstack([np.hstack(images[r * columns : (r + 1) * columns]) for r in range(rows)])
    folder.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), mosaic[: size[0], : size[1]])
    return path
