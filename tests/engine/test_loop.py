"""The test loop with a model that needs no weights: right digits, skipping, resuming, many processes."""

import csv
import json
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config

from ovseg.datasets import DatasetNotFound
from ovseg.engine import EvalRunner, EvalState, ResumeError, SetupError
from ovseg.evaluation import confusion_update, summarise
from ovseg.weights import CheckpointError
from tests.launching import cause, evaluate_with


def run(path: Path, work_dir: Path, resume: bool = False, **options) -> EvalRunner:
    cfg = Config.fromfile(path)
    cfg.work_dir = str(work_dir)
    cfg.test_cfg.update(resume=resume)
    cfg.merge_from_dict(options)
    runner = EvalRunner.from_cfg(cfg)
    runner.metrics = runner.test()
    return runner


def expected_summary(runner: EvalRunner):
    """The numbers by hand: every sample through the data set and the model, one matrix."""
    dataset, model = runner.test_loop.dataset, runner.model
    classes, ignore = len(dataset.metainfo["classes"]), dataset.metainfo["ignore_index"]
    matrix = torch.zeros(classes, classes, dtype=torch.int64)
    for i in range(len(dataset)):
        item = dataset[i]
        if item["inputs"] is None:
            continue
        with torch.no_grad():
            (sample,) = model([item["inputs"]], [item["data_samples"]])
        confusion_update(matrix, sample.pred_sem_seg.data, sample.gt_sem_seg.data, ignore)
    return summarise(matrix)


@pytest.mark.parametrize("name", ["voc21", "ade20k", "ade847"])
def test_numbers_and_files(config_file, tmp_path, name):
    runner = run(config_file(name), tmp_path / "work")
    expected = expected_summary(runner)
    assert runner.metrics == expected.means()
    assert 0 < runner.metrics["mIoU"] < 100
    result = json.loads((tmp_path / "work/result.json").read_text())
    assert result["mIoU"] == runner.metrics["mIoU"] and result["images"] == 3 and result["skipped"] == 0
    assert result["short_side"] == 32 and result["precision"] == "fp32" and result["complete"] is False
    assert len(result["per_class"]) == len(expected.iou)
    with open(tmp_path / "work/results.csv", newline="") as file:
        assert [r["method"] for r in csv.DictReader(file)] == [f"brightness_{name}"]
    assert not (tmp_path / "work/failures.json").exists() and not (tmp_path / "work/test_state").exists()


@pytest.mark.parametrize("batch_size, workers", [(2, 0), (3, 2)])
def test_batches_and_workers_do_not_change_digits(config_file, tmp_path, batch_size, workers):
    path = config_file()
    one = run(path, tmp_path / "a")
    options = {"test_dataloader.batch_size": batch_size, "test_dataloader.num_workers": workers}
    other = run(path, tmp_path / "b", **options)
    assert torch.equal(one.test_loop.metric.total, other.test_loop.metric.total)
    assert one.metrics == other.metrics


def test_unreadable_samples_are_skipped_and_listed(config_file, tmp_path):
    path = config_file()
    folder = tmp_path / "data/VOCdevkit/VOC2012"
    (folder / "JPEGImages/2007_000042.jpg").write_bytes(b"not a jpeg")
    runner = run(path, tmp_path / "work", **{"test_dataloader.batch_size": 2})
    failures = json.loads((tmp_path / "work/failures.json").read_text())
    assert [(f["sample_idx"], f["name"]) for f in failures] == [(1, "2007_000042")]
    assert "not a picture" in failures[0]["error"]
    assert runner.test_loop.images == 2 and runner.metrics == expected_summary(runner).means()
    for name in ("2007_000033", "2011_003276"):
        (folder / f"SegmentationClass/{name}.png").unlink()
    runner = run(path, tmp_path / "work")
    assert runner.test_loop.images == 0 and np.isnan(runner.metrics["mIoU"])
    assert len(json.loads((tmp_path / "work/failures.json").read_text())) == 3
    assert json.loads((tmp_path / "work/result.json").read_text())["mIoU"] is None


def test_an_error_of_the_model_keeps_what_was_done_and_resume_goes_on(config_file, tmp_path):
    whole = run(config_file(), tmp_path / "whole").metrics
    log = tmp_path / "seen.txt"
    path = config_file(fail_on="2011_003276", log=str(log))
    with pytest.raises(RuntimeError, match="out of memory"):
        run(path, tmp_path / "work")
    assert (tmp_path / "work/test_state/rank0.npz").exists()
    log.unlink()
    path.write_text(path.read_text().replace("'fail_on': '2011_003276'", "'fail_on': None"))
    with pytest.raises(ResumeError, match="another config .*Run without --resume"):
        run(path, tmp_path / "work", resume=True)
    move_state_to_config(path, tmp_path / "work")
    runner = run(path, tmp_path / "work", resume=True)
    assert log.read_text().split() == ["2011_003276"], "nothing is computed twice"
    assert runner.metrics == whole and runner.test_loop.images == 3
    assert not (tmp_path / "work/test_state").exists()


def test_resume_refuses_other_weights_under_the_same_config(config_file, tmp_path):
    path = config_file(interrupt_on="2007_000042")
    for name, gain in (("a", 1.0), ("b", 0.5)):
        torch.save({"gain": torch.tensor(gain)}, tmp_path / f"{name}.pth")
    with pytest.raises(KeyboardInterrupt):
        run(path, tmp_path / "work", load_from=str(tmp_path / "a.pth"))
    with pytest.raises(ResumeError, match="another checkpoint"):
        run(path, tmp_path / "work", resume=True, load_from=str(tmp_path / "b.pth"))
    runner = run(path, tmp_path / "work", resume=True, load_from=str(tmp_path / "a.pth"))
    assert runner.test_loop.images == 3


def move_state_to_config(path: Path, work_dir: Path) -> None:
    """Give a saved state the fingerprint of another config, as if the same one had been used."""
    from ovseg.engine.runner import set_short_side
    from ovseg.evaluation import config_hash

    cfg = Config.fromfile(path)
    set_short_side(cfg)
    state = work_dir / "test_state"
    with np.load(state / "rank0.npz") as saved:
        fingerprint = {**json.loads(str(saved["fingerprint"])), "config": config_hash(cfg)}
        EvalState(fingerprint, saved["matrix"], set(saved["done"].tolist()), 1.0).save(state)


def test_a_signal_stops_between_batches(config_file, tmp_path):
    log = tmp_path / "seen.txt"
    path = config_file(interrupt_on="2007_000042", log=str(log))
    with pytest.raises(KeyboardInterrupt):
        run(path, tmp_path / "work")
    assert log.read_text().split() == ["2007_000033", "2007_000042"]
    runner = run(path, tmp_path / "work", resume=True)
    assert log.read_text().split() == ["2007_000033", "2007_000042", "2011_003276"]
    assert runner.metrics == expected_summary_without_signal(runner)


def expected_summary_without_signal(runner):
    runner.model.interrupt_on = None
    return expected_summary(runner).means()


def test_resume_without_a_state_starts_anew(config_file, tmp_path):
    assert run(config_file(), tmp_path / "work", resume=True).test_loop.images == 3


def test_state_is_saved_while_running(config_file, tmp_path, monkeypatch):
    path = config_file(interrupt_on="2011_003276")
    saved = []
    monkeypatch.setattr(EvalState, "save", lambda self, folder, rank: saved.append(len(self.done)))
    with pytest.raises(KeyboardInterrupt):
        run(path, tmp_path / "work", **{"test_cfg.save_every": 0.0})
    assert saved == [1, 2, 3]


@pytest.mark.parametrize("processes", [2, pytest.param(3, marks=pytest.mark.slow)])
def test_several_processes_give_the_digits_of_one(config_file, tmp_path, processes):
    path = config_file("ade847")
    one = run(path, tmp_path / "one")
    done = evaluate_with(processes, path, tmp_path / "two")
    result = json.loads((tmp_path / "two/result.json").read_text())
    assert result["processes"] == processes and result["images"] == 3
    assert {k: result[k] for k in one.metrics} == one.metrics
    assert done.stdout.count("per class") == 1, "only the first process prints"


@pytest.mark.slow
def test_a_process_that_dies_ends_the_others_and_the_run_goes_on(config_file, tmp_path):
    path = config_file("ade847", die_once=str(tmp_path / "victim"))
    one = run(path, tmp_path / "one")
    (tmp_path / "victim").write_text(one.test_loop.dataset[1]["data_samples"].name)
    started = time.monotonic()
    with pytest.raises(AssertionError, match="^exit codes .*-9"):
        evaluate_with(2, path, tmp_path / "two")
    assert time.monotonic() - started < 60
    evaluate_with(2, path, tmp_path / "two", "--resume")
    result = json.loads((tmp_path / "two/result.json").read_text())
    assert result["images"] == 3 and {k: result[k] for k in one.metrics} == one.metrics


def test_what_several_processes_say_begins_with_the_cause():
    said = "KeyError: 1\nW1 torch/distributed/elastic/multiprocessing/api.py:1028] Sending\n exitcode  : 1 (pid: 7)"
    assert cause(said) == "exit codes 1\nKeyError: 1"
    assert cause("a" * 9000, 100) == "a" * 50 + "\n[...]\n" + "a" * 50


def test_states_of_several_processes_are_merged(tmp_path):
    fingerprint = {"config": "a", "number of samples": 9}
    parts = [EvalState(fingerprint, np.full((2, 2), r + 1), {r, r + 3}, float(r)) for r in range(3)]
    for rank, part in enumerate(parts):
        part.save(tmp_path, rank)
    total = EvalState.load(tmp_path, fingerprint)
    assert total.matrix.tolist() == [[6, 6], [6, 6]] and total.done == set(range(6)) and total.seconds == 2.0
    total.save(tmp_path)  # rank 0 took over, and the run broke off before the others' files were removed
    assert EvalState.load(tmp_path, fingerprint).matrix.tolist() == [[6, 6], [6, 6]]
    EvalState.clear(tmp_path, from_rank=1)
    assert [p.name for p in tmp_path.iterdir()] == ["rank0.npz"]
    EvalState(fingerprint, np.ones((2, 2), int), {0, 8}, 0.0).save(tmp_path, 1)
    with pytest.raises(ResumeError, match="overlap"):
        EvalState.load(tmp_path, fingerprint)
    (tmp_path / "rank1.npz").write_bytes(b"PK")
    with pytest.raises(ResumeError, match="damaged"):
        EvalState.load(tmp_path, fingerprint)
    with pytest.raises(ResumeError, match="another number of samples"):
        EvalState.load(tmp_path, {**fingerprint, "number of samples": 3})
    assert EvalState.load(tmp_path / "none", fingerprint) is None


def test_missing_data_is_told_before_the_model_is_built(config_file, tmp_path, monkeypatch):
    path = config_file()
    monkeypatch.setenv("OVSEG_DATA", str(tmp_path / "nowhere"))
    path.write_text(path.read_text().replace("BrightnessModel", "NoSuchModel"))
    with pytest.raises(DatasetNotFound, match="prepare_data.py voc21"):
        run(path, tmp_path / "work")


def test_wrong_parts_are_named(config_file, tmp_path):
    path = config_file()
    with pytest.raises(SetupError, match="brightness_voc21.py: .*EvalSampler"):
        run(path, tmp_path, **{"test_dataloader.sampler": dict(type="DefaultSampler", shuffle=False)})
    with pytest.raises(SetupError, match="exactly one SegMetric"):
        run(path, tmp_path, test_evaluator=[])
    cfg = Config(dict(model=dict(type="BrightnessModel")))
    with pytest.raises(SetupError, match="no test_dataloader"):
        EvalRunner.from_cfg(cfg)


def test_vocabulary_of_another_data_set_is_named(config_file, tmp_path):
    path = config_file()
    path.write_text(path.read_text().replace("'num_classes': 21", "'num_classes': 150"))
    with pytest.raises(ValueError, match=r"2007_000033.jpg: prediction \d+ outside .*vocabulary"):
        run(path, tmp_path / "work")


# ------------------------------------------------------------------------------------------------------- checkpoints
def test_checkpoint_is_loaded_safely(config_file, tmp_path):
    path = config_file()
    plain = run(path, tmp_path / "work").metrics
    torch.save({"state_dict": {"gain": torch.tensor(0.5)}}, tmp_path / "dark.pth")
    runner = run(path, tmp_path / "work", load_from=str(tmp_path / "dark.pth"))
    assert runner.model.gain == 0.5 and runner.metrics != plain
    torch.save({"other": torch.zeros(3)}, tmp_path / "other.pth")
    with pytest.raises(SetupError, match="no tensor of the model"):
        run(path, tmp_path / "work", load_from=str(tmp_path / "other.pth"))
    torch.save({"gain": torch.zeros(3)}, tmp_path / "shape.pth")
    with pytest.raises(SetupError, match="gain has another shape"):
        run(path, tmp_path / "work", load_from=str(tmp_path / "shape.pth"))
    torch.save({"gain": torch.tensor(float("nan"))}, tmp_path / "lost.pth")
    with pytest.raises(CheckpointError, match=r"lost\.pth: holds NaN or infinite values in 1 weights, e\.g\. gain"):
        run(path, tmp_path / "work", load_from=str(tmp_path / "lost.pth"))
    with pytest.raises(FileNotFoundError, match="nowhere.pth does not exist"):
        run(path, tmp_path / "work", load_from="nowhere.pth")


class Evil:
    def __reduce__(self):
        return (Path.touch, (Path("executed"),))


def test_code_in_a_checkpoint_is_not_executed(config_file, tmp_path, monkeypatch):
    from ovseg.weights import WeightsError

    monkeypatch.chdir(tmp_path)
    torch.save({"gain": Evil()}, tmp_path / "evil.pth")
    with pytest.raises(WeightsError, match="evil.pth"):
        run(config_file(), tmp_path / "work", load_from=str(tmp_path / "evil.pth"))
    assert not (tmp_path / "executed").exists()
