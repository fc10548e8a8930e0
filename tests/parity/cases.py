"""Which config answers which golden, and what the golden's recording did on top.

A golden's folder name is a method, with a suffix for its variant. Everything else (images, words, class ids) is read
from the folder, so that goldens of further images need no change here.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import cv2
import numpy as np
from mmengine.config import Config

from tests.standins import PARITY, REPOSITORY, standin, standin_bank

CONFIGS = REPOSITORY / "configs"
PHOTO_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif")
DROP_PIPELINE_STEPS = ("LoadMask", "LoadRegions")
"""Goldens have no label maps, and bring their region maps themselves."""


@dataclass(frozen=True)
class Case:
    """One golden's counterpart in ovseg.

    Attributes:
        config: the method's own VOC21 config, relative to ``configs/``.
        changes: dotted config keys to other values, where the golden is a variant that has no config of its own.
        text_given: the method's prompts are their authors' writing, so the golden's embeddings are the input.
        words_given: the golden's words are the input, too: they are not those of the config.
        window_grid: ``win0`` is on the patch grid, not upsampled to the window.
        renormalised: the golden's ``probs`` were divided by their sum over the classes (NACLIP's code does so).
        masks: folder under ``goldens/`` with region maps.
        hard_cut: the method drops patches whose similarity lies below a mean; where one lies within rounding of it, a
            patch or two differ by more than rounding. Up to 1 % of the pixels may then miss the bar, with a note.
        first_window_only: the golden is of the first window alone, its labels are per *query* at the window's size.
        constant_background: the golden has no word for the background, whose score is the threshold (channel 0).
        slow: takes minutes; only ``first window`` and ``query`` are compared in the quick suite.
    """

    config: str
    changes: dict[str, object] = field(default_factory=dict)
    text_given: bool = False
    words_given: bool = False
    window_grid: bool = False
    renormalised: bool = False
    masks: str | None = None
    hard_cut: bool = False
    first_window_only: bool = False
    slow: bool = False
    constant_background: bool = False

    @property
    def config_path(self) -> Path:
        return CONFIGS / self.config

    @property
    def method(self) -> str:
        """Name of the method's base config, e.g. ``sclip``."""
        return self.config.split("/")[0]


CASES = {
    "maskclip": Case("maskclip/maskclip_laion-vitb16_voc21.py", window_grid=True),
    "maskclip_quickgelu": Case("maskclip/maskclip_vitb16_voc21.py", window_grid=True),
    "sclip": Case("sclip/sclip_vitb16_voc21.py"),
    "clearclip": Case("clearclip/clearclip_vitb16_voc21.py"),
    "clearclip_maskclip": Case(
        "clearclip/clearclip_vitb16_voc21.py",
        {"model.attention": dict(type="ValueAttention", residual=False, ffn=False)},
    ),
    "naclip": Case("naclip/naclip_pamr_vitb16_voc21.py", renormalised=True),
    "cliptrase_224": Case("cliptrase/cliptrase_vitb16_voc21.py"),
    "cliptrase_336": Case("cliptrase/cliptrase336_vitb16_voc21.py"),
    "itaclip": Case("itaclip/itaclip_vitb16_voc21.py", text_given=True, slow=True),
    "cliper_noslide": Case("cliper/cliper_vitb16_voc21.py", text_given=True),
    "cliper_slide336": Case("cliper/cliper-slide_vitb16_voc21.py", text_given=True),
    "proxyclip_b8": Case("proxyclip/proxyclip_vitb16_voc21.py", hard_cut=True),
    "proxyclip_b16": Case("proxyclip/proxyclip_vitb16_voc21.py", {"model.guide.weights": "dino/vitb16"}, hard_cut=True),
    "trident": Case("trident/trident_vitb16_voc21.py", {"model.label_refiners": []}, hard_cut=True),
    "trident_sam": Case("trident/trident_vitb16_voc21.py", hard_cut=True),
    "corrclip_b8": Case("corrclip/corrclip_vitb16_voc21.py", masks="corrclip_masks", hard_cut=True),
    "corrclip_b16": Case(
        "corrclip/corrclip_vitb16_voc21.py",
        {"model.guide.weights": "dino/vitb16"},
        masks="corrclip_masks",
        hard_cut=True,
    ),
    "scclip": Case("scclip/scclip_vitb16_voc21.py"),
    "sfp": Case("sfp/sfp_vitb16_voc21.py"),
    "resclip": Case("resclip/resclip_vitb16_voc21.py", renormalised=True),
    "resclip_slide": Case(
        "resclip/resclip_vitb16_voc21.py",
        {
            "model.windows": dict(crop=224, stride=112),
            "model.stitch.threshold": 0.25,
            "model.attention.weight": 0.4,
            "model.attention.sharpness": 1.8,
        },
        first_window_only=True,
    ),
    "segearth_noup": Case("segearth/segearth-noup_vitb16_voc21.py"),
    "segearth_jbu_win0": Case("segearth/segearth_vitb16_voc21.py", first_window_only=True),
    "lposs": Case("lposs/lposs_vitb16_voc21.py"),
    "corrclipv2_nobank": Case(
        "corrclipv2/corrclipv2_vitb16_voc21.py",
        {"model.guide.source": dict(type="DinoBackbone", weights="dino/vitb16", pos_embed="scale")},
        masks="corrclip_masks",
        hard_cut=True,
    ),
    "corrclipv2_bank": Case(
        "corrclipv2/corrclipv2_vitb16_voc21.py",
        {
            "model.guide.source": dict(type="DinoBackbone", weights="dino/vitb16", pos_embed="scale"),
            "model.stitch": dict(
                type="RetrievalStitch",
                bank="standin",
                auxiliary=dict(store="aux", backbone=dict(type="ClipBackbone", weights="openai/ViT-B-16")),
            ),
        },
        masks="corrclip_masks",
        hard_cut=True,
    ),
    "corrclipv2_bank_noaux": Case(
        "corrclipv2/corrclipv2_vitb16_voc21.py",
        {
            "model.guide.source": dict(type="DinoBackbone", weights="dino/vitb16", pos_embed="scale"),
            "model.stitch": dict(type="RetrievalStitch", bank="standin"),
        },
        masks="corrclip_masks",
        hard_cut=True,
    ),
    "talk2dino_nobg": Case("talk2dino/talk2dino_vitb14_voc20.py"),
    "talk2dino_bg": Case("talk2dino/talk2dino_vitb14_voc21.py", constant_background=True),
    "dinotxt_head": Case(
        "dinotxt/dinotxt_vitl16_voc20.py",
        {"model.backbone.weights": "dinov3/vitb16"},
        text_given=True,
        words_given=True,
    ),
    "dinotxt_notebook": Case(
        "dinotxt/dinotxt_vitl16_voc20.py",
        {"model.backbone.weights": "dinov3/vitb16", "model.backbone.tokens": "backbone"},
        text_given=True,
        words_given=True,
    ),
    "vip": Case(
        "vip/vip_vitl16_voc21.py", {"model.backbone.weights": "dinov3/vitb16"}, text_given=True, words_given=True
    ),
    "radseg": Case(
        "radseg/radseg_vitb16_voc20.py",
        {
            "model.backbone.weights": "dino/vitb16",
            "model.backbone.text": "openai/ViT-B-16",
            "model.backbone.pos_embed": "scale",
        },
        words_given=True,
        hard_cut=True,
    ),
    "clip_dinoiser": Case("clip_dinoiser/clip_dinoiser_vitb16_voc21.py", window_grid=True),
    "clip_dinoiser_quickgelu": Case(
        "clip_dinoiser/clip_dinoiser_vitb16_voc21.py", {"model.backbone.weights": "openai/ViT-B-16"}, window_grid=True
    ),
}


@dataclass(frozen=True)
class Golden:
    """What the official code gave for one image."""

    name: str
    image: str

    @property
    def folder(self) -> Path:
        return PARITY / "goldens" / self.name

    @property
    def photo(self) -> Path:
        """``images/<image>`` with the first of ``PHOTO_SUFFIXES`` that exists (PNG, where there is none)."""
        names = [PARITY / "images" / f"{self.image}{suffix}" for suffix in PHOTO_SUFFIXES]
        return next((path for path in names if path.is_file()), names[0])

    @cached_property
    def arrays(self) -> dict[str, np.ndarray]:
        """All arrays of the image, with the full label map as ``argmax``."""
        found = dict(np.load(self.folder / f"{self.image}.npz"))
        labels = self.folder / f"{self.image}_argmax.png"
        if labels.is_file():
            found["argmax"] = cv2.imread(str(labels), cv2.IMREAD_UNCHANGED)
        return found

    @cached_property
    def text(self) -> dict[str, np.ndarray]:
        return dict(np.load(self.folder / "text.npz"))

    @property
    def words(self) -> list[str]:
        return [str(word) for word in self.text["words"]]

    @property
    def classes(self) -> np.ndarray:
        """Class of every query; RADSeg's count from the class after the background, which it has not."""
        return np.unique(self.text["idx"], return_inverse=True)[1]

    def regions(self, folder: str) -> np.ndarray:
        return np.load(PARITY / "goldens" / folder / f"{self.image}.npz")["instance_mask"]

    def __str__(self) -> str:
        return f"{self.name}-{self.image}"


def goldens() -> list[Golden]:
    """Everything under ``PARITY/goldens`` that has a text file (that and raw_text.npz are none of images), sorted."""
    found = []
    for text in sorted((PARITY / "goldens").glob("*/text.npz")):
        images = sorted(p.stem for p in text.parent.glob("*.npz") if not p.name.startswith(("text", "raw_text")))
        found.extend(Golden(text.parent.name, image) for image in images)
    return found


def methods() -> list[str]:
    """All methods ovseg has a base config for."""
    return sorted(p.stem for p in (CONFIGS / "_base_" / "models").glob("*.py"))


def load_config(case: Case, precision: str = "fp32") -> Config:
    """The case's config with stand-in checkpoints in every place that names weights."""
    config = Config.fromfile(case.config_path)
    for key, value in case.changes.items():
        *path, last = key.split(".")
        node = config
        for part in path:
            node = node[part]
        node[last] = value  # replaces, where merge_from_dict would mix two dicts
    model = config.model
    if "text" in model.backbone:
        names = dict(checkpoint="weights", text_checkpoint="text", map_checkpoint="text_map")
        names |= dict(language_checkpoint="language")
        names = {file: model.backbone[name] for file, name in names.items() if name in model.backbone}
        model.backbone.update({file: str(standin(name)) for file, name in names.items()})
    else:
        model.backbone.checkpoint = str(standin("openai/ViT-B-16"))
    model.backbone.precision = precision
    for part in (model.get("guide"), model.get("photo_encoder")):
        part = part.get("source", part) if part else part  # a guide of photo scope holds another one
        if part:
            part.checkpoint = str(standin(part.weights))
            part.precision = precision
    if model.attention.get("heads"):
        model.attention.checkpoint = str(standin(model.attention.heads))
    if case.masks:
        model.regions = None
    stitch = model.get("stitch") or {}
    if stitch.get("upsampler"):
        stitch.checkpoint = str(standin(stitch.upsampler))
    if stitch.get("bank"):
        stitch.bank = str(standin_bank())
    if stitch.get("auxiliary"):
        stitch.auxiliary.backbone.checkpoint = str(standin("auxiliary"))
    return config
