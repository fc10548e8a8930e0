"""What trained methods cost: parameters, multiplications, seconds and memory per photo and per training step.

Beside ovseg's streamed class maps stands the straightforward form: the decoder's maps of all words are brought to the
photo's size, then the largest is taken, as the official codes do.
"""

from __future__ import annotations

import os
import statistics
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import open_clip
import torch
from mmengine.config import Config
from mmengine.dataset import Compose
from mmengine.registry import init_default_scope
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from ovseg.apis import config_root
from ovseg.engine import set_short_side
from ovseg.registry import MODELS, TRANSFORMS
from ovseg.segmentors import DecoderSegmentor
from ovseg.weights.catalogue import catalogue, get_card
from tools.benchmarking.clock import Clock, PeakMemory, interleaved, median_ratio
from tools.benchmarking.methods import TEMPLATES, Job
from tools.benchmarking.stages import flop_formulas
from tools.benchmarking.standins import random_tensor

COSTED = {
    "catseg/catseg_vitb16_ade20k.py": "catseg/catseg_vitb16_train.py",
    "catseg/catseg_vitl14-336_ade20k.py": None,
    "san/san_vitb16_ade20k.py": "san/san_vitb16_train.py",
    "sed/sed_convnextb_ade20k.py": "sed/sed_convnextb_train.py",
    "sed/sed_fast_convnextb_ade20k.py": None,
    "maft_plus/maft_plus_convnext-base_ade20k.py": "maft_plus/maft_plus_convnext-base_train.py",
    "fcclip/fcclip_convnext-large_ade20k.py": None,
    "ovseg/ovseg_swinb-vitl14_ade20k.py": None,
    "zegclip/zegclip_vitb16_context59.py": "zegclip/zegclip_vitb16_context59_train.py",
    "cascade_clip/cascade_clip_vitb16_context59.py": "cascade_clip/cascade_clip_vitb16_context59_train.py",
    "denseclip/denseclip_vitb16_ade20k.py": "denseclip/denseclip_vitb16_ade20k_train.py",
    "maskclip_plus/maskclip_plus_resnet101_context59.py": None,
}
"""Configs of the table, below the folder of configs, and the recipe that trains each; ``None``: ovseg has none for the
whole model, or a step of it is that of two models (MaskCLIP+)."""
PHOTO = (512, 683)
"""Height and width of a usual ADE20K photo."""


def plain_clip(arch: str) -> str:
    """Name of a CLIP of an architecture whose file holds nothing but the CLIP.

    Raises:
        ValueError: where the catalogue has none.
    """
    name = next((card.name for card in catalogue().values() if card.kind == "clip" and card.arch == arch), None)
    if name is None:
        raise ValueError(f"the catalogue has no plain CLIP {arch}")
    return name


def standin_clip(arch: str) -> Path:
    """A file of open_clip's architecture with random numbers, in half precision; written at first use."""
    root = os.environ.get("OVSEG_STANDIN_DIR") or Path(tempfile.gettempdir()) / f"ovseg-standins-{os.getuid()}"
    path = Path(root) / f"{arch}.pt"
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        state = open_clip.create_model(arch, pretrained=None).state_dict()
        part = path.with_suffix(f".{os.getpid()}.part")
        torch.save({name: random_tensor(name, value) for name, value in state.items()}, part)
        os.replace(part, path)
    return path


def untrained(path: Path) -> Config:
    """A config with stand-ins in place of its weights; those of nano stay."""
    config = Config.fromfile(path)
    model = config.model
    if str(model.backbone.weights).startswith("nano"):
        return config
    for part in (model.backbone, model.get("teacher")):
        if part:
            arch = get_card(part.weights).arch
            part.update(weights=plain_clip(arch), checkpoint=str(standin_clip(arch)))
    model.decoder.update(weights=None, checkpoint=None)
    model.update(templates=TEMPLATES, text_cache=False)
    return config


def cost_job(path: Path, photo: Path) -> Job:
    """A trained method's model, and the photo as its data pipeline gives it.

    Raises:
        ValueError: for a config without a decoder.
    """
    init_default_scope("ovseg")
    config = untrained(path)
    if "decoder" not in config.model:
        raise ValueError(f"{path} has no decoder: --costs is for trained methods")
    set_short_side(config)
    torch.manual_seed(0)
    model = MODELS.build(config.model).eval().requires_grad_(False)  # the counter of products hooks what trains
    steps = [s for s in config.test_dataloader.dataset.pipeline if s["type"] != "LoadMask"]
    pipeline = Compose([TRANSFORMS.build(step) for step in steps])
    return Job(Path(path).stem, model, pipeline, photo, pipeline(dict(img_path=str(photo))))


@torch.no_grad()
def whole_maps(job: Job) -> Tensor:
    """Labels ``[H, W]`` the straightforward way: all maps at the photo's size, then the largest."""
    model, item = job.model, job.item
    encoded = model.encode([model.prepare(item["inputs"], job.size, item.get("original"))])[0]
    wording = model.wording()
    best = model.score_map(encoded, wording).block().argmax(0)  # of a class's names the best one counts
    return wording.queries.query_to_class[best]


def parameters(model: DecoderSegmentor) -> dict[str, float]:
    """Millions of parameters, each once: ``text`` (CLIP's text tower), ``image`` (all else), ``trained``."""
    clip = model.backbone.clip
    towers = ("visual.", "logit_")
    text = {id(p) for name, p in clip.named_parameters() if not name.startswith(towers)}
    every = {id(p): p for p in model.parameters()}
    count = dict(
        image=sum(p.numel() for key, p in every.items() if key not in text),
        text=sum(p.numel() for key, p in every.items() if key in text),
        trained=sum(p.numel() for p in every.values() if p.requires_grad),
    )
    return {name: round(value / 1e6, 2) for name, value in count.items()}


def training_cost(recipe: Path, clock: Clock, memory: PeakMemory) -> dict[str, float | int]:
    """Seconds and memory of one training step with one crop of noise, and millions of parameters that train."""
    init_default_scope("ovseg")
    config = untrained(recipe)
    torch.manual_seed(0)
    model: nn.Module = MODELS.build(config.model).train()
    side = next(step["size"] for step in config.train_dataloader.dataset.pipeline if step["type"] == "CropAndPad")
    numbers = np.random.default_rng(0)
    image = torch.from_numpy(numbers.integers(0, 256, (3, side, side), dtype=np.uint8))
    labels = torch.from_numpy(numbers.integers(0, 4, (side // 32, side // 32))).repeat_interleave(32, 0)
    sample = SegDataSample(metainfo=dict(ori_shape=(side, side), ignore_index=255))
    sample.gt_sem_seg = PixelData(data=labels.repeat_interleave(32, 1)[None])

    @torch.enable_grad()
    def step() -> None:
        losses = model([image], [sample], mode="loss")
        sum(value for name, value in losses.items() if "loss" in name).backward()

    growth = memory.growth(step)  # gradients included
    return dict(
        trained_m=parameters(model)["trained"],
        training_crop=side,
        training_s=round(clock.time(step), 3),
        training_mib=round(growth / 2**20, 1),
    )


def cost_row(config: Path, recipe: Path | None, photo: Path, repeats: int, clock: Clock) -> dict[str, object]:
    """One method's figures; streamed and straightforward runs in turn, on one photo.

    Args:
        config: of a trained method.
        recipe: config of its training, or ``None``.
        photo: what is segmented.
        repeats: timed runs of either side, after one of each that warms up.
        clock: what time is.
    """
    job, memory = cost_job(config, photo), PeakMemory()
    sides = dict(streamed=job.predict, whole=partial(whole_maps, job))
    labels = {name: side() for name, side in sides.items()}
    counter = FlopCounterMode(display=False, custom_mapping=flop_formulas())
    with counter:
        job.predict()
    growth = {name: memory.growth(side) for name, side in sides.items()}
    seconds = interleaved(sides, repeats, clock)
    count = parameters(job.model)
    row = dict(
        method=job.name,
        photo=f"{job.size[0]}x{job.size[1]}",
        words=job.model.wording().queries.num_classes,
        image_parameters_m=count["image"],
        text_parameters_m=count["text"],
        gmac=round(counter.get_total_flops() / 2e9, 1),
        seconds=round(statistics.median(seconds["streamed"]), 3),
        whole_maps_over_this=round(median_ratio(seconds["whole"], seconds["streamed"]), 3),
        mib=round(growth["streamed"] / 2**20, 1),
        whole_maps_mib=round(growth["whole"] / 2**20, 1),
        labels_as_whole_maps=round(float((labels["streamed"] == labels["whole"]).float().mean()), 5),
        repeats=repeats,
        clock=clock.kind,
    )
    del job
    training = training_cost(recipe, clock, memory) if recipe else {}
    return row | {key: training.get(key, "") for key in ("trained_m", "training_crop", "training_s", "training_mib")}


def costed(methods: Sequence[str] | None) -> dict[Path, Path | None]:
    """Configs to measure and their recipes; ``None``: those of :data:`COSTED`."""
    root = config_root()
    known = {root / config: recipe and root / recipe for config, recipe in COSTED.items()}
    if methods is None:
        return known
    chosen = [Path(method).resolve() for method in methods]
    return {path: known.get(path) for path in chosen}
