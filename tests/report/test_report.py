"""The error report of an evaluation: in one go, interrupted, by two processes, over a run without one, of a suite."""

import json
from pathlib import Path

import numpy as np
import pytest
from mmengine.config import Config

from ovseg.engine import EvalRunner, SpreadHook
from ovseg.errors import SetupError
from ovseg.report import ReportHook, suite_page
from ovseg.report.store import ReportStore, collect
from tests.cli.json_lines import run as run_command
from tests.engine.conftest import config_file  # noqa: F401
from tests.launching import evaluate_with

ROOT = Path(__file__).parents[2]


def run(path: Path, work_dir: Path, resume: bool = False, report: bool = True, **settings) -> ReportHook | None:
    cfg = Config.fromfile(path)
    cfg.work_dir = str(work_dir)
    cfg.test_cfg.update(resume=resume)
    runner = EvalRunner.from_cfg(cfg)
    hook = ReportHook(**settings) if report else None
    if hook:
        runner.register_hook(hook)
    runner.test()
    runner.call_hook("after_run")
    return hook


def same(one: dict, other: dict) -> bool:
    return {k: v for k, v in one.items() if k not in ("page", "title")} == {
        k: v for k, v in other.items() if k not in ("page", "title")
    }


def test_the_page_stands_alone_and_says_what_was_found(config_file, tmp_path, capsys, monkeypatch):  # noqa: F811
    page = tmp_path / "there" / "report.html"
    out = tmp_path / "work"
    path = config_file()
    monkeypatch.delenv("OVSEG_DATA")  # MMEngine would tell of it, to a stream that an earlier test opened
    capsys.readouterr()
    data = f"test_dataloader.dataset.data_root={tmp_path / 'data/VOCdevkit/VOC2012'}"
    lines = run_command(capsys, "eval", path, "--work-dir", out, "--report", page, "--cfg-options", data)
    errors = next(line for line in lines if line["kind"] == "errors")
    result = next(line for line in lines if line["kind"] == "result")
    text = page.read_text()
    assert errors["page"] == str(page) and errors["photos"] == 3
    assert f"{result['row']['mIoU']:.2f}" in text and "http" not in text.replace("data:", "")
    pixels = sum(zone["pixels"] for zone in errors["zones"])
    right = sum(zone["pixels"] - zone["errors"] for zone in errors["zones"])
    assert 100 * right / pixels == pytest.approx(result["row"]["aAcc"]) and pixels > 0
    assert text.count("<h2>") == 6 and "gives no confidences" in text
    wrong = [row for row in result["per_class"] if row["pixels"] != row["predicted"] or (row["iou"] or 100) < 100]
    assert text.count("<img ") == 3 + len(wrong)
    assert errors["confused"][0]["truth"] in text


def test_interrupted_and_resumed_as_in_one_go(config_file, tmp_path):  # noqa: F811
    whole = run(config_file(), tmp_path / "whole").facts
    path = config_file(interrupt_on="2007_000042")
    with pytest.raises(KeyboardInterrupt):
        run(path, tmp_path / "work")
    with (tmp_path / "work/report/rank0/photos.jsonl").open("a") as file:
        file.write('{"index": 2, "na')  # a kill in the middle of a line
    again = run(path, tmp_path / "work", resume=True)
    assert same(again.facts, whole)
    assert same(run(path, tmp_path / "work", resume=True).facts, whole), "a finished run gives its page again"


@pytest.mark.parametrize(("hook", "what"), [(ReportHook, "The report"), (SpreadHook, "The spread over photos")])
def test_unlabelled_pixels_are_refused_before_the_first_photo(config_file, tmp_path, hook, what):  # noqa: F811
    cfg = Config.fromfile(config_file())
    cfg.work_dir, cfg.test_evaluator.unlabelled = str(tmp_path / "work"), True
    runner = EvalRunner.from_cfg(cfg)
    runner.register_hook(hook())
    with pytest.raises(SetupError, match=f"{what} needs a class for every pixel"):
        runner.test()
    assert not list(tmp_path.glob("work/**/*.jsonl"))


def test_a_run_that_had_none_is_told(config_file, tmp_path):  # noqa: F811
    path = config_file(interrupt_on="2007_000042")
    with pytest.raises(KeyboardInterrupt):
        run(path, tmp_path / "work", report=False)
    hook = run(path, tmp_path / "work", resume=True)
    assert hook.facts["photos"] == 1
    assert "covers 1 of the 3 photos" in (tmp_path / "work/report/report.html").read_text()
    path.write_text(path.read_text().replace("2007_000042", "nobody"))
    assert run(path, tmp_path / "work").facts["photos"] == 3, "a run from the start begins anew"


@pytest.mark.slow
def test_two_processes_give_the_page_of_one(config_file, tmp_path):  # noqa: F811
    path = config_file("ade847")
    one = run(path, tmp_path / "one")
    evaluate_with(2, path, tmp_path / "two", "--report", str(tmp_path / "two.html"))
    assert sorted(p.name for p in (tmp_path / "two/report").glob("rank*")) == ["rank0", "rank1"]
    assert same(json.loads((tmp_path / "two/report/report.json").read_text()), one.facts)
    pages = [(tmp_path / "two.html").read_text(), (tmp_path / "one/report/report.html").read_text()]
    assert pages[0].partition("<h2>")[2] == pages[1].partition("<h2>")[2]


def test_only_the_worst_pictures_are_kept(tmp_path):
    from ovseg.evaluation.error_statistics import photo_errors

    truth, drawn = np.zeros((10, 10), np.uint8), []
    store = ReportStore(tmp_path, 0, 2, True)
    for index, wrong in enumerate((3, 9, 0, 5, 1, 7)):
        pred = truth.copy()
        pred.ravel()[:wrong] = 1
        found = photo_errors(pred, truth, 3)
        picture = np.full((8, 8, 3), 10 * wrong, np.uint8)

        def draw(*label, picture=picture, index=index):
            drawn.append((index, *label))
            return picture

        store.add(index, f"photo{index}", found, found.summary(3), draw, draw)
        if index == 3:
            store = ReportStore(tmp_path, 0, 2, True)  # another process goes on
    found = collect(tmp_path, 3, range(6), 2)
    assert [photo.name for photo, _ in found.worst] == ["photo1", "photo5"]
    assert {label: photo.index for label, (photo, _) in found.examples.items()} == {0: 1, 1: 1}
    assert len(list(tmp_path.glob("rank0/*.jpg"))) == 4
    assert [index for index, *label in drawn if not label] == [0, 1, 3, 5] and found.statistics.photos == 6
    assert collect(tmp_path, 3, {0, 2}, 2).statistics.matrix[0].tolist() == [197, 3, 0]


def test_a_sample_evaluated_twice_counts_once(tmp_path):
    from ovseg.evaluation.error_statistics import photo_errors

    truth = np.zeros((4, 4), np.uint8)
    picture = np.zeros((4, 4, 3), np.uint8)
    for rank, label in ((1, 1), (0, 0)):
        found = photo_errors(np.full_like(truth, label), truth, 2)
        ReportStore(tmp_path, rank, 1, False).add(
            7, "a", found, found.summary(2), lambda: picture, lambda label: picture
        )
    assert collect(tmp_path, 2, {7}, 1).statistics.matrix.tolist() == [[16, 0], [0, 0]]


@pytest.mark.slow
def test_a_model_with_confidences(tmp_path):
    cfg = Config.fromfile(ROOT / "configs/nano/sclip_nano_scenes.py")
    cfg.work_dir = str(tmp_path)
    cfg.test_dataloader.dataset.indices = 2
    runner = EvalRunner.from_cfg(cfg)
    runner.register_hook(hook := ReportHook())
    metrics = runner.test()
    assert 0 < hook.facts["ece"] < 100 and "reliability diagram" in (tmp_path / "report/report.html").read_text()
    runner.model.keep_confidence = False
    item = runner.test_loop.dataset[0]
    (plain,) = runner.model([item["inputs"]], [item["data_samples"]])
    labels = plain.pred_sem_seg.data.clone()
    runner.model.keep_confidence = True
    (kept,) = runner.model([item["inputs"]], [item["data_samples"]])
    assert (kept.pred_sem_seg.data == labels).all() and (kept.pred_best.data == labels).all()
    probability = kept.pred_confidence.data
    assert probability.shape == labels.shape and 0 < probability.min() <= probability.max() <= 1
    assert 0 < metrics["mIoU"] < 100


def test_the_page_of_a_suite(config_file, tmp_path):  # noqa: F811
    run(config_file(), tmp_path / "a", worst=1, examples=False)
    text = suite_page("two", [("one", "voc", tmp_path / "a/report"), ("<two>", "voc", tmp_path / "b/report")])
    assert text.count("<details><summary><b>voc · one") == 1 and text.count("<img ") == 1
    assert "&lt;two&gt; on voc: evaluated without --report" in text and "<two>" not in text
