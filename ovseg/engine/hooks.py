"""What happens beside the numbers: the result row, pictures, label maps."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from mmengine.dist import get_dist_info, is_main_process
from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmseg.structures import SegDataSample
from PIL import Image
from torch import Tensor

from ovseg.datasets.dataset import SegmentationDataset
from ovseg.datasets.errors import SampleError
from ovseg.datasets.files import atomic_path, write_labels
from ovseg.datasets.fingerprint import dataset_fingerprint
from ovseg.datasets.io import photo_source, read_image
from ovseg.engine.errors import SetupError
from ovseg.evaluation.confusion import confusion_update
from ovseg.evaluation.metric import SegMetric
from ovseg.evaluation.result import ResultRow, make_row
from ovseg.evaluation.spread import bootstrap_miou
from ovseg.registry import HOOKS
from ovseg.visualization import draw_comparison


@HOOKS.register_module()
class ResultHook(Hook):
    """Write ``result.json`` and a row of ``results.csv`` when an evaluation ends; nothing where it only repeats one.

    Args:
        json_name: in the run's work directory.
        csv: shared table; relative paths are below the run's work directory. ``None``: none.
    """

    def __init__(self, json_name: str = "result.json", csv: str | None = "results.csv") -> None:
        self.json_name, self.csv = json_name, csv
        self.row: ResultRow | None = None
        self.per_class: list[dict[str, object]] = []

    def after_test_epoch(self, runner: Runner, metrics: dict | None = None) -> None:
        """Main process only: collect the row and write it."""
        if not is_main_process():
            return
        loop, model = runner.test_loop, runner.model
        device = next((p.device for p in [*model.parameters(), *model.buffers()]), None)
        self.row = make_row(
            runner.cfg,
            loop.metric.summary,
            model={**(model.describe() if hasattr(model, "describe") else {}), "class_words": loop.class_words},
            dataset=loop.dataset,
            images=loop.images,
            skipped=len(loop.failures),
            seconds=loop.seconds,
            device=device if device is not None else loop.metric.total.device,
            processes=get_dist_info()[1],
        )
        self.row.data["notes"] = loop.notes
        if isinstance(loop.dataset, SegmentationDataset):
            self.row.data["fingerprint"] = dataset_fingerprint(loop.dataset)
        self.per_class = loop.metric.summary.per_class(loop.metric.names)
        work_dir = Path(runner.work_dir)
        if loop.is_repeat and (work_dir / self.json_name).is_file():
            return
        self.row.write_json(work_dir / self.json_name, self.per_class)
        if self.csv is not None:
            written = self.row.append_csv(work_dir / self.csv)
            if written != work_dir / self.csv:
                runner.logger.warning(f"{work_dir / self.csv} has other columns; the row went to {written}")


@HOOKS.register_module()
class VisualizationHook(Hook):
    """Write photo | ground truth | prediction with one legend for every sample (``--show-dir``).

    Args:
        show_dir: folder; a picture is named after its sample, sub-folders included.
        max_side: each of the three is at most this many pixels on its long side.
        alpha: weight of the class colours.
        first: only of the first so many samples of the data set; ``None``: of all.
    """

    def __init__(self, show_dir: str | Path, max_side: int = 800, alpha: float = 0.6, first: int | None = None) -> None:
        self.show_dir, self.max_side, self.alpha = Path(show_dir), max_side, alpha
        self.first = first

    def after_test_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | None = None, outputs: Sequence[SegDataSample] = ()
    ) -> None:
        """Draw the samples of a batch."""
        names = runner.test_loop.metric.names
        for i, sample in enumerate(outputs):
            if self.first is not None and sample.metainfo["sample_idx"] >= self.first:
                continue
            pred = labels_of(sample, "pred_sem_seg")
            truth = labels_of(sample, "gt_sem_seg") if "gt_sem_seg" in sample else None
            photo = photo_of(sample, data_batch["inputs"][i], pred.shape)
            picture = draw_comparison(photo, truth, pred, names, self.max_side, self.alpha)
            with atomic_path(self.show_dir / f"{sample_name(sample)}.png") as temporary:
                Image.fromarray(picture).save(temporary)


@HOOKS.register_module()
class PredictionHook(Hook):
    """Write every prediction as a PNG of class indices (``--out``): 8 bit up to 256 classes, else 16 bit.

    The indices are those that are evaluated, 0 to C - 1, also where the data set has ``reduce_zero_label``.

    Args:
        out_dir: folder; a file is named after its sample, sub-folders included.
    """

    def __init__(self, out_dir: str | Path) -> None:
        self.out_dir = Path(out_dir)

    def after_test_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | None = None, outputs: Sequence[SegDataSample] = ()
    ) -> None:
        """Write the label maps of a batch."""
        classes = len(runner.test_loop.metric.names)
        for sample in outputs:
            write_labels(self.out_dir / f"{sample_name(sample)}.png", labels_of(sample, "pred_sem_seg"), classes)


def sample_name(sample: SegDataSample) -> str:
    """Name of a sample without suffix: the data set's, else that of the photo's file."""
    return sample.metainfo.get("name") or Path(sample.metainfo["img_path"]).stem


def labels_of(sample: SegDataSample, key: str) -> np.ndarray:
    """A map ``[H, W]`` of a sample: ``pred_sem_seg``, ``gt_sem_seg``."""
    return sample.get(key).data.squeeze(0).cpu().numpy()


def need_labels_everywhere(metric: SegMetric, what: str) -> None:
    """Refuse, before the first photo, what cannot do without a class for every pixel.

    Raises:
        SetupError: where ``metric`` counts unlabelled pixels.
    """
    if metric.unlabelled:
        raise SetupError(
            f"{what} needs a class for every pixel, but this evaluation leaves some unlabelled: leave it out, or set "
            "model.head.unlabelled=False model.head.threshold=0 test_evaluator.unlabelled=False"
        )


def photo_of(sample: SegDataSample, inputs: Tensor, shape: tuple[int, int]) -> np.ndarray:
    """The photo at the size of its labels: the file, or, where the pipeline cropped, the model's input resized."""
    try:
        photo = read_image(photo_source(sample.metainfo))
    except SampleError:  # it went away since it was loaded
        photo = None
    if photo is None or photo.shape[:2] != tuple(shape):
        resized = inputs.permute(1, 2, 0).cpu().numpy()
        photo = cv2.resize(resized, (shape[1], shape[0]), interpolation=cv2.INTER_LINEAR)
    return photo


@HOOKS.register_module()
class SpreadHook(Hook):
    """Keep the confusion matrix of every photo (``per_photo.jsonl`` in the work directory), for benchmarks so small
    that their mIoU owes much to the draw of the photos: :meth:`spread`.

    A resumed run adds to the file; a sample that is evaluated again replaces what it had.
    """

    def __init__(self) -> None:
        self.file: Path | None = None

    def before_test(self, runner: Runner) -> None:
        """A run from the start begins anew."""
        need_labels_everywhere(runner.test_loop.metric, "The spread over photos")
        self.file = Path(runner.work_dir) / "per_photo.jsonl"
        if not runner.test_loop.resume:
            self.file.unlink(missing_ok=True)

    def after_test_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | None = None, outputs: Sequence[SegDataSample] = ()
    ) -> None:
        """Count the pixels of each photo of a batch."""
        metric = runner.test_loop.metric
        rows = []
        for sample in outputs:
            matrix = torch.zeros(len(metric.names), len(metric.names), dtype=torch.int64)
            truth, guess = labels_of(sample, "gt_sem_seg"), labels_of(sample, "pred_sem_seg")
            confusion_update(matrix, guess, truth, metric.dataset_meta["ignore_index"])
            rows.append(json.dumps({"photo": sample_name(sample), "matrix": matrix.tolist()}) + "\n")
        with self.file.open("a", encoding="utf-8") as file:
            file.writelines(rows)

    def spread(self) -> tuple[float, float] | None:
        """Bounds of the mIoU in percent, see :func:`ovseg.evaluation.spread.bootstrap_miou`; ``None`` where the run
        goes on from one without this hook."""
        if not self.file.is_file():
            return None
        rows = [json.loads(line) for line in self.file.read_text(encoding="utf-8").splitlines()]
        matrices = {row["photo"]: np.array(row["matrix"]) for row in rows}
        return bootstrap_miou([matrices[name] for name in sorted(matrices)])
