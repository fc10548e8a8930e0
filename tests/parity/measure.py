"""Runs ovseg on a golden's image and measures how far each recorded array is away."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache, partial

import numpy as np
import torch
import torch.nn.functional as F
from mmengine.dataset import Compose
from mmengine.registry import init_default_scope
from torch import Tensor

from ovseg.encoder import WindowBatch
from ovseg.engine import set_short_side
from ovseg.float32 import exact_convolutions
from ovseg.heads import ClassHead, EarlyMaxHead
from ovseg.photo import Photo
from ovseg.refiners import SamPromptRefiner
from ovseg.registry import MODELS, TRANSFORMS
from ovseg.scores import DecodedScoreMap, RefinedScoreMap, ScoreMap
from ovseg.stitches import FeatureSplice, SelfAggregatedSplice
from ovseg.text import Vocabulary
from tests.parity.cases import CASES, DROP_PIPELINE_STEPS, Case, Golden, load_config
from tests.parity.intermediates import INTERMEDIATES
from tests.standins import standin_dir

QUERY_BAR = 1e-4
"""Largest difference of a text embedding's entries."""
RANGE_BAR = 1e-3
"""Largest difference of logits, as a share of their range."""
LABEL_BAR = 0.999
"""Least share of equal labels."""
PROBABILITY_TOLERANCE = 5e-3
"""A recorded probability counts as equal within this (they are stored as float16, and thresholds cut some to zero)."""
DEVICE = os.environ.get("OVSEG_PARITY_DEVICE", "cpu")
"""Where the models run: ``cuda`` proves parity on a GPU."""
SAMPLED = {"logits": (8, 16), "win0": (8, 16), "probs": (2, 4), "argmax_nothresh": (2, 4)}
"""First pixel and step of the arrays that were recorded at every n-th pixel only."""


@dataclass(frozen=True)
class Figure:
    """One comparison.

    Attributes:
        key: the golden's array.
        kind: ``'difference'`` (largest absolute), ``'of range'`` (that, as a share of the golden's range) or
            ``'agreement'`` (share of equal entries).
        value: the figure.
        bar: what it may be at most (differences) or at least (agreement).
        note: what must be said with it.
    """

    key: str
    kind: str
    value: float
    bar: float
    note: str = ""

    @property
    def passed(self) -> bool:
        return self.value >= self.bar if self.kind == "agreement" else self.value <= self.bar

    def __str__(self) -> str:
        shown = f"{self.value:.4%}" if self.kind == "agreement" else f"{self.value:.2e}"
        return f"{self.key} {self.kind} {shown} (bar {self.bar:g}){' ' + self.note if self.note else ''}"


@lru_cache(maxsize=64)
def measure(golden: Golden, first_window_only: bool = False, precision: str = "fp32") -> dict[str, Figure]:
    """All comparisons that a golden allows, by its arrays' names.

    Args:
        golden: the golden.
        first_window_only: compute one window and compare ``win0`` (and the text) only.
        precision: of the backbone, ``'fp32'`` or ``'bf16'``.
    """
    _give_back_memory()
    case = CASES[golden.name]
    first_window_only = first_window_only or case.first_window_only
    run = Run(golden, case, precision)
    figures = {f.key: f for f in run.text_figures()}
    outputs = run.first_window() if first_window_only else run.outputs()
    inner = INTERMEDIATES.get(run.case.method)
    if inner is not None:
        with exact_convolutions():
            outputs |= inner(run)
    for key, recorded in golden.arrays.items():
        if key in outputs:
            ours = sampled(key, outputs[key], recorded)
            figures[key] = compare(key, recorded, ours)
            if CASES[golden.name].hard_cut and figures[key].kind == "of range" and not figures[key].passed:
                figures[key] = but_for_single_pixels(figures[key], recorded, ours)
    return figures


def _give_back_memory() -> None:
    """Return what the last model used to the system: the C library keeps it in pieces too small for the next one.

    Without it, the suite grew to 10 GB in one process on some days; with it, to what its largest model needs.
    """
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc has it
    if trim is not None:
        trim(0)


def sampled(key: str, array: np.ndarray, recorded: np.ndarray) -> np.ndarray:
    """``array`` at the pixels that were recorded."""
    if array.shape == recorded.shape or key not in SAMPLED:
        return array
    first, step = SAMPLED[key]
    return array[..., first::step, first::step]


def compare(key: str, recorded: np.ndarray, ours: np.ndarray) -> Figure:
    """The figure for one array.

    Raises:
        ValueError: if the shapes differ.
    """
    if recorded.shape != ours.shape:
        raise ValueError(f"{key}: the golden has shape {recorded.shape}, ovseg {ours.shape}")
    if recorded.dtype.kind in "iu":  # labels, indices
        return Figure(key, "agreement", float((recorded == ours).mean()), LABEL_BAR)
    recorded, ours = recorded.astype(np.float64), ours.astype(np.float64)
    difference = np.abs(recorded - ours)
    if key == "probs":
        return Figure(key, "agreement", float((difference <= PROBABILITY_TOLERANCE).mean()), LABEL_BAR)
    if key.startswith("query"):
        return Figure(key, "difference", float(difference.max()), QUERY_BAR)
    return Figure(key, "of range", float(difference.max() / (np.ptp(recorded) + 1e-12)), RANGE_BAR)


def but_for_single_pixels(figure: Figure, recorded: np.ndarray, ours: np.ndarray) -> Figure:
    """The figure without the worst 1 % of the pixels (arrays ``[Q, h, w]``), with the largest of all as a note."""
    worst = np.abs(recorded.astype(np.float64) - ours).max(0) / np.ptp(recorded)
    note = f"without the worst 1 % of the pixels, where rounding decides at a cut; with them {figure.value:.1e}"
    return Figure(figure.key, figure.kind, float(np.quantile(worst, 0.99)), figure.bar, note)


class Run:
    """One model on one golden's image, with what happens inside kept."""

    def __init__(self, golden: Golden, case: Case, precision: str = "fp32") -> None:
        init_default_scope("ovseg")
        self.golden, self.case = golden, case
        self.kept: dict = {"refined": {}}
        config = load_config(case, precision)
        set_short_side(config)
        vocabulary = Vocabulary.from_config(self._words(config.model.pop("vocabulary")))
        config.model.text_cache = str(standin_dir() / "text")
        if case.text_given:
            config.model.auxiliary_text = None
        self.model = MODELS.build(dict(config.model, vocabulary=None)).to(DEVICE).eval()
        words = ["background", *golden.words] if case.constant_background else golden.words
        self.order = query_order(vocabulary.queries, words)
        if case.text_given:
            rows = torch.from_numpy(golden.text["query"]).unflatten(0, (len(self.order), -1))  # one for each template
            embeddings = torch.empty(len(self.order), rows.shape[-1])
            embeddings[self.order] = rows.mean(1)
            self.model.set_vocabulary(vocabulary, embeddings)
        else:
            self.model.set_vocabulary(vocabulary)
        self.data = self._data(config)

    def _words(self, config: dict) -> dict:
        """The golden's words in place of the config's, where they are an input."""
        if not self.case.words_given:
            return config
        classes = self.golden.classes
        names = ["; ".join(np.array(self.golden.words)[classes == c]) for c in range(classes.max() + 1)]
        return dict(names=names, background=config.get("background"))

    def _data(self, config) -> dict:
        """The collated batch that the config's own data pipeline gives for the photo."""
        steps = [s for s in config.test_dataloader.dataset.pipeline if s["type"] not in DROP_PIPELINE_STEPS]
        item = Compose([TRANSFORMS.build(step) for step in steps])(dict(img_path=str(self.golden.photo)))
        if self.case.masks:
            item["regions"] = torch.from_numpy(self.golden.regions(self.case.masks))
        return {key: [value] for key, value in item.items()}

    # ------------------------------------------------------------------ what the golden is compared with
    def text_figures(self) -> list[Figure]:
        """The text embeddings, unless they are an input."""
        recorded = self.golden.text["query"]
        if self.case.text_given:
            return []
        order = self.order[1:] if self.case.constant_background else self.order
        return [compare("query", recorded, self.model.text[order].cpu().numpy())]

    @exact_convolutions()
    @torch.no_grad()
    def first_window(self) -> dict[str, np.ndarray]:
        """``win0`` alone."""
        model = self.model
        encoder = model.encoder
        layout = encoder.layout(self.photo)
        part = model.stitch.score(model.stitch.encode(self.first_batch(), encoder), encoder, model.queries)[0]
        window = self._window(part, layout, self.order)
        if not self.case.first_window_only:
            return {"win0": window}
        labels = (window * self.model.head.logit_scale).argmax(0)
        return {"win0": window, "argmax": labels}

    def first_batch(self) -> WindowBatch:
        """The photo's first window, alone."""
        encoder = self.model.encoder
        cut = encoder.cut(self.photo, encoder.layout(self.photo))
        return cut.row(0)

    @torch.no_grad()
    def outputs(self) -> dict[str, np.ndarray]:
        """Everything that some golden holds, from one ``test_step``."""
        model, kept = self.model, self.kept
        score, score_map = model.stitch.score, model.score_map

        def keep_parts(*args) -> Tensor:
            parts = score(*args)
            kept.setdefault("part", parts[0])
            return parts

        def keep_scores(encoded, wording):
            kept["photo"] = encoded.photo
            kept["scores"] = _without_repetition(score_map(encoded, wording))
            return kept["scores"]

        with contextlib.ExitStack() as undo:
            undo.callback(vars(model.stitch).pop, "score")
            undo.callback(vars(model).pop, "score_map")
            model.stitch.score, model.score_map = keep_parts, keep_scores
            for refiner in model.label_refiners:
                if isinstance(refiner, SamPromptRefiner):
                    undo.callback(vars(refiner).pop, "refined_maps")
                    refiner.refined_maps = _keeping(refiner.refined_maps, kept["refined"])
            sample = model.test_step(self.data)[0]
        return self._arrays(kept, sample.pred_sem_seg.data[0])

    def _arrays(self, kept: dict, labels: Tensor) -> dict[str, np.ndarray]:
        model, photo, scores, part = self.model, kept["photo"], kept["scores"], kept["part"]
        layout = model.windows.layout(*photo.image.shape[1:], model.backbone.patch_size)
        classes, head = len(model.vocabulary), model.head
        ours_of = self.class_order()
        probabilities = head.probabilities(scores, model.query_to_class, classes)[ours_of]
        if self.case.renormalised:
            probabilities = probabilities / probabilities.sum(0)
        recorded = self.golden.arrays.get("probs")
        if recorded is not None and len(recorded) == len(probabilities) - 1:
            probabilities = probabilities[1:]  # CLIPer has no map for its background, class 0
        plain = head.labels_and_confidence(scores, model.query_to_class, classes, threshold=False)[0]
        if kept["refined"]:  # SAM's scores take the place of the probabilities; a class without a mask has none
            probabilities = torch.zeros_like(probabilities)
            for (index, (y0, y1, x0, x1)), refined in kept["refined"].items():
                probabilities[index, y0:y1, x0:x1] = refined
            probabilities = probabilities[ours_of]
            plain = torch.from_numpy(ours_of)[probabilities.argmax(0).cpu()]
        golden_of = np.argsort(ours_of)
        out = dict(
            probs=probabilities.cpu().numpy(),
            argmax=golden_of[labels.cpu().numpy()],
            argmax_nothresh=golden_of[plain.cpu().numpy()],
        )
        if photo.affinity is not None:
            scale = float(model.backbone.clip.logit_scale.exp())
            out["grid_logits"] = (part[: len(self.order)][self.order] * scale).cpu().numpy()
            out["cluster_attn"] = photo.affinity.flatten(1).cpu().numpy()
        elif isinstance(scores, DecodedScoreMap):  # dino.txt: probabilities, nearly flat
            out["probs32"] = probabilities[:, 8::16, 8::16].cpu().numpy()
        elif isinstance(model.stitch, SelfAggregatedSplice):  # RADSeg
            out["grid"] = part[self.order].cpu().numpy()
        elif isinstance(head, ClassHead) and not isinstance(head, EarlyMaxHead):  # VIP: maps of classes
            out["logits"] = scores.block()[ours_of].cpu().numpy()
            out["win0"] = self._window(part, layout, ours_of)
        elif len(part) < len(self.order):  # foreground queries only, in ascending order: the golden's, too
            out["grid"] = part.cpu().numpy()
            out["score"] = scores.cells.amax((1, 2)).cpu().numpy()
        else:
            out["logits"] = scores.block()[self.order].cpu().numpy()
            if self.case.constant_background:
                out["logits"][0] = head.threshold
            if len(part) == len(self.order) and not isinstance(
                model.stitch, FeatureSplice
            ):  # its scores are the photo's
                out["win0"] = self._window(part, layout, self.order)
        return out

    def _window(self, part: Tensor, layout, order: Sequence[int]) -> np.ndarray:
        """A window's scores in the golden's order: on its grid, or upsampled to the window without its padding."""
        part = part[order[1:] if self.case.constant_background else order]
        if self.case.window_grid:
            return part.cpu().numpy()
        (h, w), (top, left) = layout.window, layout.offset
        full = F.interpolate(part[None], size=layout.padded, mode="bilinear", align_corners=layout.align_corners)[0]
        return full[:, top : top + h, left : left + w].cpu().numpy()

    @cached_property
    def photo(self) -> Photo:
        """The photo as the segmentor prepares it."""
        sample = self.data["data_samples"][0]
        extras = [self.data.get(key, [None])[0] for key in ("original", "regions")]
        return self.model.prepare(self.data["inputs"][0], tuple(sample.ori_shape[:2]), *extras)

    def class_order(self) -> np.ndarray:
        """Our class of each of the golden's classes: the official code may count the background last."""
        ours = self.model.query_to_class[self.order].cpu().numpy()
        order = np.zeros(len(self.model.vocabulary), np.int64)
        shown = self.golden.classes
        order[np.append(0, shown + 1) if self.case.constant_background else shown] = ours
        return order


def query_order(ours: tuple[str, ...], words: list[str]) -> list[int]:
    """Our index of each of the golden's words; a word that occurs twice is matched in order.

    Raises:
        ValueError: if the two are not the same words.
    """
    places: dict[str, list[int]] = {}
    for index, query in enumerate(ours):
        places.setdefault(query, []).append(index)
    if sorted(ours) != sorted(words):
        raise ValueError(f"the config's words are not the golden's: {sorted(set(ours) ^ set(words))}")
    return [places[word].pop(0) for word in words]


def _keeping(refined_maps: Callable, kept: dict[tuple, Tensor]) -> Callable:
    """``SamPromptRefiner.refined_maps`` that also puts its maps into ``kept``, by class and box of the tile."""

    def keeping(labels: Tensor, photo, tile) -> Iterator[tuple[int, Tensor]]:
        for index, refined in refined_maps(labels, photo, tile):
            kept[index, tile.box] = refined
            yield index, refined

    return keeping


def _without_repetition(scores):
    """Refined maps are computed when they are asked for; here they are asked for three times, so they are kept."""
    if not isinstance(scores, RefinedScoreMap):
        return scores
    full = scores.block()
    eye = partial(torch.eye, device=full.device)
    return ScoreMap(full, eye(full.shape[1]), eye(full.shape[2]))
