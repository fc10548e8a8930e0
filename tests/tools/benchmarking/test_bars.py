"""The promised figures: small cases, and the file they are written to."""

import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from tools.benchmarking import bars
from tools.benchmarking.bars import GROUPS, Bar, Plan, at_least, at_most, measure_bars
from tools.benchmarking.clock import Clock
from tools.benchmarking.compare import compare_rows
from tools.benchmarking.methods import PAPER_METHODS, given_regions
from tools.benchmarking.naive import CASES, Case, build_case, relative_error, wrong_labels
from tools.benchmarking.operators import Comparison, compare_case
from tools.benchmarking.standins import random_tensor, standin
from tools.benchmarking.straightforward import STRAIGHTFORWARD

PLAN = Plan(1, Clock(), full=False)


def test_every_promise_has_a_group():
    assert set(STRAIGHTFORWARD) == set(PAPER_METHODS)
    assert {"sam", "argmax847", "argmax21", "correlation", "curves"} <= set(GROUPS)


def test_results_are_written_as_they_come_and_parts_are_joined(tmp_path, monkeypatch):
    file = tmp_path / "out" / "bars.json"

    def one(plan):
        yield at_least("speed", 5.0, 5.0)
        assert [b["name"] for b in json.loads(file.read_text())] == ["speed"], "written before the next is measured"
        yield at_most("error", 0.2, 0.1, "too large")

    def two(plan):
        yield at_least("other", 1.0, 2.0)

    monkeypatch.setattr(bars, "GROUPS", {"one": one, "two": two})
    assert [b.holds for b in measure_bars(["one"], PLAN, file)] == [True, False]
    list(measure_bars(["two"], PLAN, file))
    entries = json.loads(file.read_text())
    assert [(e["name"], e["holds"]) for e in entries] == [("speed", True), ("error", False), ("other", False)]
    assert all({"name", "value", "target", "holds"} <= set(e) for e in entries)
    with pytest.raises(ValueError, match="unknown bars three"):
        list(measure_bars(["three"], PLAN))


def test_a_case_is_compared_in_time_and_result():
    figures = compare_case("self-naclip", False, 2, Clock("cpu"), memory=False)
    assert len(figures.seconds["naive"]) == len(figures.seconds["fused"]) == 2
    assert figures.difference < 1e-5 and figures.speed > 0
    with pytest.raises(ValueError, match="no case"):
        build_case("nothing", False)
    assert set(CASES) >= {"argmax21", "argmax847", "correlation", "sam-encoder"}


def test_memory_ratio_counts_at_least_a_mebibyte():
    figures = Comparison("", "", 0.0, "", {}, {"naive": 50 * 2**20, "fused": 0})
    assert figures.memory_ratio == 50.0


def test_only_errors_are_wrong_labels():
    scores = torch.randn(3, 4, 5, generator=torch.Generator().manual_seed(0))
    right = F.interpolate(scores[None], size=(16, 20), mode="bilinear")[0].argmax(0)
    assert wrong_labels(scores, right, right) == 0
    broken = right.clone()
    broken[3:5, 7] = (right[3:5, 7] + 1) % 3
    assert wrong_labels(scores, right, broken) == 2
    assert wrong_labels(scores, broken, right) == 0, "where the naive side errs, ovseg is not wrong"


def test_case_words():
    case = Case("t", None, None, relative_error)
    assert case.difference(torch.ones(3), torch.ones(3) * 1.5) == "5.0e-01"


def test_standins_depend_on_the_name_only():
    like = torch.empty(8, 16)
    a, b = (random_tensor("blocks.0.attn.qkv.weight", like) for _ in range(2))
    assert a.dtype == torch.half and torch.equal(a, b)
    assert not torch.equal(a, random_tensor("blocks.1.attn.qkv.weight", like))
    assert random_tensor("norm1.weight", torch.empty(400)).float().mean() == pytest.approx(1, abs=0.05)
    with pytest.raises(ValueError, match="no stand-in weights for 'sam/vit_h'"):
        standin("sam/vit_h")


def test_regions_cover_the_photo():
    image = np.kron(np.random.default_rng(0).integers(0, 255, (4, 5, 3), np.uint8), np.ones((30, 30, 1), np.uint8))
    ids = given_regions(image)
    assert ids.shape == image.shape[:2] and ids.dtype == np.int32 and len(np.unique(ids)) > 5


def test_compare_rows():
    runs = {"here": [{"CLIP": 1.0, "rest": 1.0}, {"CLIP": 2.0, "rest": 1.0}], "there": [{"CLIP": 3.0}, {"CLIP": 6.0}]}
    rows = {row["stage"]: row for row in compare_rows("sclip", runs)}
    assert rows["CLIP"]["there_over_here"] == 3.0 and rows["rest"]["there_ms"] == 0.0
    assert rows["total"]["here_ms"] == 2500.0 and rows["total"]["there_over_here"] == pytest.approx((1.5 + 2.0) / 2)


def test_bar_is_a_plain_record():
    assert vars(Bar("a", 1.0, 2.0, False)) == dict(name="a", value=1.0, target=2.0, holds=False, note="")
