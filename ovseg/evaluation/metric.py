"""The metric for MMEngine's evaluator: one streamed confusion matrix, no list that grows with the images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from mmengine.dist import all_reduce
from mmengine.evaluator import BaseMetric
from torch import Tensor

from ovseg.class_files import read_class_file
from ovseg.evaluation.confusion import SegSummary, confusion_update, mean_of_classes, summarise
from ovseg.registry import METRICS


@METRICS.register_module()
class SegMetric(BaseMetric):
    """aAcc, mIoU, mIoU_present and mAcc of a data set, in percent; rules at :data:`ovseg.evaluation.MIOU_RULE`.

    The number of classes and the ignore index are the data set's (its ``metainfo``). The matrices of all ranks are
    summed, so the result does not depend on how many there are. After :meth:`evaluate`, :attr:`summary` holds the
    values per class.

    Args:
        ignore_index: overrides the data set's.
        unlabelled: the model may give a pixel no class, label C (``ClassHead(unlabelled=True)``): it counts as missed,
            but as no class's false positive.
        prefix: put before the names of the values, as ``prefix/mIoU``.

    >>> metric = SegMetric()
    >>> metric.dataset_meta = dict(classes=("cat", "sofa"), ignore_index=255)
    >>> labels = dict(data=torch.tensor([[[0, 1, 255]]]))
    >>> metric.process(None, [dict(pred_sem_seg=dict(data=torch.tensor([[[0, 0, 1]]])), gt_sem_seg=labels)])
    >>> metric.evaluate(size=1)["mIoU"]
    25.0
    """

    default_prefix = ""  # None would make MMEngine warn

    def __init__(self, ignore_index: int | None = None, prefix: str | None = None, unlabelled: bool = False) -> None:
        super().__init__(collect_device="cpu", prefix=prefix)
        self.ignore_index, self.unlabelled = ignore_index, unlabelled
        self.matrix: Tensor | None = None  # this rank, so far
        self.total: Tensor | None = None  # all ranks, after evaluate()
        self.summary: SegSummary | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """The data set's class names."""
        return tuple((self.dataset_meta or {}).get("classes", ()))

    def process(self, data_batch: object, data_samples: Sequence[dict]) -> None:
        """Add predictions.

        Args:
            data_batch: not looked at.
            data_samples: dicts (of data samples) with ``pred_sem_seg`` and ``gt_sem_seg``, whose ``data`` is int
                ``[1, H, W]``.

        Raises:
            ValueError: naming the sample, for one without ground truth, of another size than its ground truth, or with
                labels that are no classes of the data set.
        """
        for sample in data_samples:
            where = sample.get("img_path", "a sample")
            if "gt_sem_seg" not in sample:
                raise ValueError(f"{where}: no ground truth; is LoadMask missing from the pipeline?")
            pred, gt = sample["pred_sem_seg"]["data"], sample["gt_sem_seg"]["data"]
            if pred.shape[-2:] != gt.shape[-2:]:
                raise ValueError(
                    f"{where}: prediction of {list(pred.shape[-2:])} for a label map of {list(gt.shape[-2:])}"
                )
            # on the GPU where the predictions are: they need not be copied to be counted
            self.matrix = self._zeros(pred.device) if self.matrix is None else self.matrix.to(pred.device)
            try:
                confusion_update(self.matrix, pred, gt, self._ignore())
            except ValueError as error:
                raise ValueError(f"{where}: {error}") from error

    def evaluate(self, size: int) -> dict[str, float]:
        """The four means over all ranks; empties the metric.

        Args:
            size: not needed: nothing is padded, see :class:`ovseg.datasets.EvalSampler`.
        """
        total = self.state_dict()["matrix"]
        all_reduce(total)
        self.matrix = None
        self.total = total
        self.summary = summarise(total)
        return {f"{self.prefix}/{k}" if self.prefix else k: v for k, v in self.compute_metrics([total]).items()}

    def compute_metrics(self, results: list) -> dict[str, float]:
        """The four means of a matrix (a list of one, as MMEngine's interface has it)."""
        return summarise(results[0]).means()

    def state_dict(self) -> dict[str, Tensor]:
        """``matrix``: int64 ``[C, C]`` on the CPU, a copy; with ``unlabelled`` ``[C, C + 1]``."""
        return {"matrix": (self._zeros("cpu") if self.matrix is None else self.matrix).cpu().clone()}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Go on from :meth:`state_dict`.

        Raises:
            ValueError: if it is of another number of classes.
        """
        matrix = state["matrix"]
        if tuple(matrix.shape) != self._shape:
            raise ValueError(f"saved matrix of {list(matrix.shape)}, the data set's is {list(self._shape)}")
        self.matrix = matrix.clone()

    def _zeros(self, device: torch.device | str) -> Tensor:
        if not self.names:
            raise ValueError("SegMetric needs the data set's class names: dataset_meta['classes']")
        return torch.zeros(self._shape, dtype=torch.int64, device=device)

    @property
    def _shape(self) -> tuple[int, int]:
        return len(self.names), len(self.names) + self.unlabelled

    def _ignore(self) -> int:
        return self.ignore_index if self.ignore_index is not None else self.dataset_meta.get("ignore_index", 255)


@METRICS.register_module()
class SplitMetric(SegMetric):
    """As :class:`SegMetric`, and apart for the classes that a training has seen and those that it has not.

    ``mIoU_seen`` and ``mIoU_unseen`` are means over the classes of each kind, by the rule of ``mIoU``; ``hIoU`` is
    their harmonic mean, the figure of generalised zero-shot segmentation (Xian et al., SPNet, CVPR 2019). Predictions
    are among all classes.

    Args:
        unseen: names of the classes that were held out, or a class file of them (:mod:`ovseg.class_files`).
        ignore_index, prefix: see :class:`SegMetric`.

    >>> metric = SplitMetric(unseen=["sofa"])
    >>> metric.dataset_meta = dict(classes=("cat", "sofa"), ignore_index=255)
    >>> labels = dict(data=torch.tensor([[[0, 0, 1, 1]]]))
    >>> metric.process(None, [dict(pred_sem_seg=dict(data=torch.tensor([[[0, 0, 1, 0]]])), gt_sem_seg=labels)])
    >>> {name: round(value, 1) for name, value in metric.evaluate(size=1).items() if name != "aAcc"}
    {'mIoU': 58.3, 'mIoU_present': 58.3, 'mAcc': 75.0, 'mIoU_seen': 66.7, 'mIoU_unseen': 50.0, 'hIoU': 57.1}
    """

    def __init__(
        self, unseen: Sequence[str] | str | Path, ignore_index: int | None = None, prefix: str | None = None
    ) -> None:
        super().__init__(ignore_index, prefix)
        from_file = isinstance(unseen, str | Path)
        self.unseen = tuple(read_class_file(Path(unseen)).entries if from_file else unseen)

    def compute_metrics(self, results: list) -> dict[str, float]:
        """The four means of a matrix, and the three of the split.

        Raises:
            ValueError: for held-out names that are no classes of the data set.
        """
        strange = [name for name in self.unseen if name not in self.names]
        if strange:
            raise ValueError(f"unseen: {strange[0]!r} is no class of the data set ({', '.join(self.names[:5])}, ...)")
        summary = summarise(results[0])
        held_out = [name in self.unseen for name in self.names]
        seen = mean_of_classes(summary, [not out for out in held_out])
        unseen = mean_of_classes(summary, held_out)
        total = seen + unseen
        harmonic = 2 * seen * unseen / total if total else 0.0
        return {**summary.means(), "mIoU_seen": seen, "mIoU_unseen": unseen, "hIoU": harmonic}
