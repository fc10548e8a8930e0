"""The hook that gathers an error report while a method is evaluated."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from mmengine.dist import barrier, get_rank, is_main_process
from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmseg.structures import SegDataSample

from ovseg import pages
from ovseg.datasets.files import atomic_path, write_json
from ovseg.engine import ResultHook
from ovseg.engine.hooks import labels_of, need_labels_everywhere, photo_of, sample_name
from ovseg.evaluation.error_statistics import photo_errors
from ovseg.explain import draw_errors, error_map
from ovseg.report.page import error_sections
from ovseg.report.store import ReportStore, collect

_RIGHT, _MISSED, _FALSE = (70, 160, 80), (214, 39, 40), (245, 160, 40)


class ReportHook(Hook):
    """Gather errors while evaluating, and write the page when the evaluation ends (``ovseg eval --report``).

    Memory does not grow with the photos: each leaves a line in ``report`` in the work directory, and only the worst a
    small picture. Runs of several processes and resumed ones give the page of a run in one go.

    Args:
        path: of the page; ``None``: the work directory's ``report/report.html``.
        worst: photos to show.
        examples: show a photo per class.
    """

    def __init__(self, path: str | Path | None = None, worst: int = 12, examples: bool = True) -> None:
        self.path, self.worst, self.examples = None if path is None else Path(path), worst, examples
        self.facts: dict[str, object] = {}
        """What the page says, on the main process and after the run; also ``report/report.json``."""

    def before_test(self, runner: Runner) -> None:
        """A run from the start begins anew; the model is asked for confidences, where it has some."""
        need_labels_everywhere(runner.test_loop.metric, "The report")
        loop, self.folder = runner.test_loop, Path(runner.work_dir) / "report"
        goes_on = loop.resume and (loop.finished_file.is_file() or any(loop.state_dir.glob("rank*.npz")))
        if is_main_process() and not goes_on:
            shutil.rmtree(self.folder, ignore_errors=True)
        barrier()  # nobody writes before it is cleared
        self.store = ReportStore(self.folder, get_rank(), self.worst, self.examples)
        if hasattr(runner.model, "keep_confidence"):
            runner.model.keep_confidence = True

    def after_test_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | None = None, outputs: Sequence[SegDataSample] = ()
    ) -> None:
        """The lines of a batch, and pictures of what is among the worst so far."""
        meta = runner.test_loop.metric.dataset_meta
        names, ignore = runner.test_loop.metric.names, meta.get("ignore_index", 255)
        for i, sample in enumerate(outputs):
            pred, truth = labels_of(sample, "pred_sem_seg"), labels_of(sample, "gt_sem_seg")
            sure = [labels_of(sample, key) if key in sample else None for key in ("pred_best", "pred_confidence")]
            found = photo_errors(pred, truth, len(names), ignore, *sure)
            inputs = data_batch["inputs"][i]

            def draw_photo(pred=pred, truth=truth, sample=sample, inputs=inputs) -> np.ndarray:
                photo = photo_of(sample, inputs, pred.shape)
                return draw_errors(photo, pred, truth, names, error_map(pred, truth, names, ignore), 320, 5)

            def draw_class(label: int, pred=pred, truth=truth, sample=sample, inputs=inputs) -> np.ndarray:
                return _draw_class(photo_of(sample, inputs, pred.shape), pred, truth, label, ignore)

            summary = found.summary(len(names))
            self.store.add(sample.metainfo["sample_idx"], sample_name(sample), found, summary, draw_photo, draw_class)

    def after_test(self, runner: Runner) -> None:
        """Main process only: add up what all left, write the page."""
        if not is_main_process():
            return
        loop = runner.test_loop
        found = collect(self.folder, len(loop.metric.names), loop.done, self.worst)
        notes = list(loop.notes)
        if not np.array_equal(found.statistics.matrix, loop.metric.total.numpy()):
            notes.append(
                f"This report covers {found.statistics.photos} of the {loop.images} photos of the evaluation: the rest "
                "was evaluated without --report. Run without --resume for a report of all"
            )
            runner.logger.warning(notes[-1])
        row = next((hook.row for hook in runner.hooks if isinstance(hook, ResultHook)), None)
        title = f"{row.method} on {row.dataset}" if row else Path(runner.work_dir).name
        sections = error_sections(found, loop.metric.names, loop.metric.summary, notes)
        path = self.path or self.folder / "report.html"
        with atomic_path(path) as temporary:
            temporary.write_text(pages.page(title, [f"<h1>{pages.text(title)}</h1>", *sections]), encoding="utf-8")
        with atomic_path(self.folder / "sections.html") as temporary:
            temporary.write_text("\n".join(sections), encoding="utf-8")
        self.facts = {"title": title, "page": str(path), **found.statistics.facts(loop.metric.names)}
        write_json(self.folder / "report.json", self.facts)


def _draw_class(
    photo: np.ndarray, pred: np.ndarray, truth: np.ndarray, label: int, ignore: int, max_side: int = 200
) -> np.ndarray:
    """A small photo in grey: pixels of the class that were found, missed, and wrongly given to it, in colours."""
    factor = min(1.0, max_side / max(photo.shape[:2]))
    size = (max(1, round(photo.shape[1] * factor)), max(1, round(photo.shape[0] * factor)))
    small = cv2.resize(photo, size, interpolation=cv2.INTER_AREA)
    grey = cv2.cvtColor(cv2.cvtColor(small, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    there, taken = truth == label, (pred == label) & (truth != ignore)
    for mask, colour in ((there & taken, _RIGHT), (there & ~taken, _MISSED), (taken & ~there, _FALSE)):
        inside = cv2.resize(mask.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST).astype(bool)
        grey[inside] = (0.45 * grey[inside] + 0.55 * np.array(colour)).astype(np.uint8)
    return grey
