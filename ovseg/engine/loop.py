"""The test loop: skips and records what cannot be read, can be interrupted and resumed, gives one result."""

from __future__ import annotations

import hashlib
import json
import time
from functools import cached_property
from pathlib import Path

import torch
from mmengine.dist import all_gather_object, barrier, get_dist_info
from mmengine.evaluator import Evaluator
from mmengine.runner import Runner
from mmengine.runner.base_loop import BaseLoop
from rich.console import Console
from torch.utils.data import DataLoader

from ovseg.datasets.check import two_valued
from ovseg.datasets.files import write_json
from ovseg.datasets.sampler import EvalSampler
from ovseg.describing import describe
from ovseg.engine.class_words import check_model, is_packaged
from ovseg.engine.progress import EvalProgress
from ovseg.engine.state import EvalState
from ovseg.engine.stopping import stop_asked_for
from ovseg.evaluation.confusion import summarise
from ovseg.evaluation.metric import SegMetric
from ovseg.evaluation.result import config_hash
from ovseg.registry import LOOPS


@LOOPS.register_module()
class OVTestLoop(BaseLoop):
    """Evaluate a model on a data set.

    A sample that could not be prepared (``inputs=None``, see :class:`ovseg.datasets.SegmentationDataset`) is skipped
    and written to ``failures.json`` in the work directory. An error of the model ends the run. What was done until then
    is saved, as it is every ``save_every`` seconds and when the run is interrupted; ``resume=True`` goes on from there.
    Of a finished run it evaluates only samples that were skipped; without any, it gives the finished result again.

    Args:
        runner: MMEngine's runner.
        dataloader: a loader or its config; its sampler must be an :class:`ovseg.datasets.EvalSampler`.
        evaluator: an evaluator or its config, with one :class:`ovseg.evaluation.SegMetric`.
        resume: go on from the state saved in the work directory, if there is one.
        save_every: seconds between saves.

    Raises:
        TypeError: for another sampler, or without a ``SegMetric``.
    """

    def __init__(
        self,
        runner: Runner,
        dataloader: DataLoader | dict,
        evaluator: Evaluator | dict | list,
        resume: bool = False,
        save_every: float = 60.0,
    ) -> None:
        super().__init__(runner, dataloader)
        self.evaluator = evaluator if isinstance(evaluator, Evaluator) else runner.build_evaluator(evaluator)
        self.evaluator.dataset_meta = self.dataset.metainfo
        runner.visualizer.dataset_meta = self.dataset.metainfo
        metrics = [m for m in self.evaluator.metrics if isinstance(m, SegMetric)]
        if len(metrics) != 1:
            raise TypeError(f"OVTestLoop needs exactly one SegMetric in test_evaluator, not {len(metrics)}")
        if not isinstance(self.dataloader.sampler, EvalSampler):
            raise TypeError(
                f"sampler {type(self.dataloader.sampler).__name__}: OVTestLoop needs sampler=dict(type='EvalSampler'), "
                "which takes every sample once on any number of processes"
            )
        self.metric = metrics[0]
        self.resume, self.save_every = resume, save_every
        self.state_dir = Path(runner.work_dir) / "test_state"
        self.finished_file = Path(runner.work_dir) / "finished.npz"
        self.is_repeat = False  # resumed a finished run, and nothing was added to it
        self.rank, self.world_size = get_dist_info()
        self.failures: list[dict[str, object]] = []
        self.images = 0  # evaluated by all processes, once the loop has run
        self.seconds = 0.0
        self.class_words: dict[str, str] = {}  # words of the classes that go by another name in the vocabulary
        self.notes: list[str] = []  # what is odd about the data, for the log and the result
        self._done: set[int] = set()
        self._pixels = self._earlier = 0  # pixels of label maps in this run; counted ones of the run it continues
        self._ignored = 0  # of all processes, once the loop has run
        self._done_by_all: set[int] = set()
        self._finished_before: set[int] | None = None

    @property
    def dataset(self):
        """The data set under evaluation."""
        return self.dataloader.dataset

    @property
    def done(self) -> frozenset[int]:
        """Indices of the samples that all processes have evaluated, earlier runs included, once the loop has run."""
        return frozenset(self._done_by_all)

    def run(self) -> dict[str, float]:
        """Evaluate; returns the metrics by name, in percent.

        Raises:
            SetupError: before the first photo, if the model's words are not those of the data set's classes.
        """
        self._check_words()
        self.runner.call_hook("before_test")
        self.runner.call_hook("before_test_epoch")
        self.runner.model.eval()
        earlier = self._start_state()
        total = len(self.dataloader.sampler)
        console = Console(stderr=True) if self.rank == 0 else None
        started = saved = time.monotonic()
        try:
            with stop_asked_for() as stop, EvalProgress(total, console=console) as progress:
                for index, batch in enumerate(self.dataloader):
                    count = len(batch["inputs"])
                    self.run_iter(index, batch)
                    miou = summarise(self.metric.matrix).mIoU if progress.wants_miou() and self._done else None
                    progress.update(count, miou)
                    if stop.is_set():
                        raise KeyboardInterrupt
                    if time.monotonic() - saved > self.save_every:
                        self._save(earlier + time.monotonic() - started)
                        saved = time.monotonic()
        except BaseException:
            self._save(earlier + time.monotonic() - started)
            raise
        self.seconds = earlier + time.monotonic() - started
        self._gather()
        metrics = self.evaluator.evaluate(len(self.dataset))
        self._note_data()
        self.runner.call_hook("after_test_epoch", metrics=metrics)
        self.runner.call_hook("after_test")
        barrier()  # every process has finished: only now is its state of no more use
        if self.rank == 0:
            total = self.metric.total.numpy()
            EvalState(self._fingerprint, total, self._done_by_all, self.seconds).write(self.finished_file)
            EvalState.clear(self.state_dir)
        return metrics

    @torch.no_grad()
    def run_iter(self, index: int, batch: dict[str, list]) -> None:
        """One batch: the readable samples through the model into the metric, the others to :attr:`failures`."""
        self.runner.call_hook("before_test_iter", batch_idx=index, data_batch=batch)
        keep = []
        for i, sample in enumerate(batch["data_samples"]):
            if batch["inputs"][i] is None:
                info = sample.metainfo
                self.failures.append({k: info.get(k) for k in ("sample_idx", "name", "img_path", "error")})
            else:
                keep.append(i)
        outputs: list = []
        if keep:
            batch = {key: [values[i] for i in keep] for key, values in batch.items()}
            try:
                outputs = self.runner.model.test_step(batch)
                for sample in outputs:
                    # one at a time: what is counted and what is marked as done never differ, also after an error
                    self.evaluator.process(data_samples=[sample], data_batch=batch)
                    self._done.add(sample.metainfo["sample_idx"])
                    self._pixels += sample.gt_sem_seg.data.numel()
            except Exception:
                paths = ", ".join(str(s.metainfo.get("img_path")) for s in batch["data_samples"])
                self.runner.logger.error(f"the error below happened on {paths}; --resume goes on after what was done")
                raise
        self.runner.call_hook("after_test_iter", batch_idx=index, data_batch=batch, outputs=outputs)

    def _check_words(self) -> None:
        """Compare the model's words with the data set's classes; say which class goes by other words."""
        self.class_words = check_model(self.runner.model, self.dataset)
        if self.class_words and self.rank == 0:
            told = ", ".join(f"{name} <- {words}" for name, words in self.class_words.items())
            # those of packaged vocabularies are known and meant; one's own list may be a mistake
            say = self.runner.logger.info if is_packaged(self.runner.model.vocabulary) else self.runner.logger.warning
            say(f"classes of the data set that stand for other words: {told}")

    def _note_data(self) -> None:
        """What is odd about the label maps; after the metric was evaluated."""
        self.notes = list(getattr(self.dataset, "notes", ()))
        meta, pixels = self.dataset.metainfo, self.metric.total.sum(dim=1).tolist()
        odd = two_valued(pixels, self._ignored, meta["classes"], meta.get("ignore_index", 255))
        if odd is not None:
            self.notes.append(odd)
            if self.rank == 0:
                self.runner.logger.warning(odd)
        absent = [name for name, count in zip(meta["classes"], pixels, strict=True) if not count]
        if absent and self.rank == 0:
            shown = ", ".join(absent[:10]) + (f" and {len(absent) - 10} more" if len(absent) > 10 else "")
            self.runner.logger.info(f"classes that occur in no label map: {shown}")

    @cached_property
    def _fingerprint(self) -> dict[str, object]:
        """What an interrupted evaluation must share with the one that continues it."""
        from ovseg.weights import file_sha256  # imports open_clip: only where it is needed

        checkpoint, model = self.runner.cfg.get("load_from"), self.runner.model
        described = model.describe() if hasattr(model, "describe") else {}
        return {
            "config": config_hash(self.runner.cfg),
            "number of samples": len(self.dataset),
            "checkpoint": file_sha256(checkpoint) if checkpoint else None,
            "words": described.get("vocabulary_hash"),
            "precision": described.get("precision"),
            "weights": hashlib.sha256(json.dumps(described, sort_keys=True, default=describe).encode()).hexdigest(),
        }

    def _start_state(self) -> float:
        """Load what there is, or clear it away; returns the seconds already spent."""
        state = EvalState.load(self.state_dir, self._fingerprint) if self.resume else None
        if self.resume and state is None and self.finished_file.is_file():
            state = EvalState.read(self.finished_file, self._fingerprint)
            self._finished_before = set(state.done)
        barrier()  # all have read before rank 0 writes
        if self.rank == 0:
            if state is not None:
                # Rank 0 takes over everything: files of other ranks go, the next run may have other numbers of them.
                state.save(self.state_dir)
                EvalState.clear(self.state_dir, from_rank=1)
                self.metric.load_state_dict({"matrix": torch.from_numpy(state.matrix)})
                self._done = set(state.done)
                self._earlier = int(state.matrix.sum())
                self.runner.logger.info(f"resumed: {len(state.done)} of {len(self.dataset)} samples were done")
            else:
                EvalState.clear(self.state_dir)
                self.finished_file.unlink(missing_ok=True)
        barrier()
        if state is None:
            return 0.0
        self.dataloader.sampler.exclude(state.done)
        return state.seconds

    def _save(self, seconds: float) -> None:
        if self._done:
            matrix = self.metric.state_dict()["matrix"].numpy()
            EvalState(self._fingerprint, matrix, self._done, seconds).save(self.state_dir, self.rank)

    def _gather(self) -> None:
        """Failures and counts of all processes, in the data set's order; ``failures.json`` is written or removed."""
        counted = 0 if self.metric.matrix is None else int(self.metric.matrix.sum()) - self._earlier
        gathered = all_gather_object((self.failures, self._done, self.seconds, self._pixels - counted))
        self.failures = sorted((f for failures, *_ in gathered for f in failures), key=lambda f: f["sample_idx"])
        self._done_by_all = set().union(*(done for _, done, _, _ in gathered))
        self.images = len(self._done_by_all)
        self.is_repeat = self._done_by_all == self._finished_before
        self.seconds = max(seconds for _, _, seconds, _ in gathered)
        self._ignored = sum(ignored for *_, ignored in gathered)
        path = Path(self.runner.work_dir) / "failures.json"
        if self.rank == 0:
            if self.failures:
                write_json(path, self.failures)
            else:
                path.unlink(missing_ok=True)
