"""Stage times add up, and measuring leaves nothing behind."""

import time

import numpy as np
import pytest
import torch

import ovseg
from ovseg.cli import main
from ovseg.timing import LABELS, OTHER, READ, StageClock, time_stages
from tests.cli.json_lines import run

PHOTO = np.random.default_rng(0).integers(0, 256, (96, 128, 3), dtype=np.uint8)


def test_a_stage_inside_another_counts_once():
    clock = StageClock(torch.device("cpu"))
    start = time.perf_counter()
    with clock.stage("outer"):
        time.sleep(0.02)
        with clock.stage("inner"):
            time.sleep(0.03)
        time.sleep(0.02)
    whole = time.perf_counter() - start
    assert sum(clock.seconds.values()) == pytest.approx(whole, abs=2e-3)
    assert clock.seconds["inner"] >= 0.03 and clock.seconds["outer"] >= 0.04
    assert clock.seconds["outer"] < whole - 0.029


@pytest.mark.parametrize(
    "method, parts", [("naclip", ()), ("proxyclip", ("guide",)), ("trident", ("guide", "photo encoder"))]
)
def test_stages_of_a_photo(method, parts):
    model = ovseg.load(method, weights="nano", precision="fp32")
    model.set_vocabulary(["cat", "grass"])
    found = time_stages(model, PHOTO, repeats=2)
    assert set(found.stages) == {READ, OTHER, LABELS, "CLIP", "attention", *parts}
    assert all(ms > 0 for ms in found.stages.values()) and len(found.total_ms) == 2
    assert found.windows >= 1 and found.size == (96, 128) and found.precision == "fp32" and found.peak_mib > 50
    assert sum(found.stages.values()) == pytest.approx(np.median(found.total_ms), rel=0.5)
    hooked = [m for m in model.model.modules() if m._forward_hooks or m._forward_pre_hooks]
    assert not hooked, "the model is as it was"


def test_regions_are_a_stage_of_their_own():
    model = ovseg.load("corrclip")
    model.set_vocabulary(["cat", "grass"])
    assert time_stages(model, PHOTO, repeats=1).stages["regions"] > 0


def test_wrong_repeats():
    model = ovseg.load("naclip", weights="nano")
    with pytest.raises(ValueError, match="no vocabulary"):
        time_stages(model, PHOTO)
    model.set_vocabulary(["cat"])
    with pytest.raises(ValueError, match="repeats"):
        time_stages(model, PHOTO, repeats=0)


def test_the_command(capsys):
    arguments = ("--classes", "cat, grass", "--model", "nano", "--repeats", 2, "--size", "96x64", "--threads", 1)
    (line,) = run(capsys, "bench", *arguments)
    assert (line["height"], line["width"], line["classes"], line["threads"]) == (64, 96, 2, 1)
    assert line["photo"] is None and len(line["total_ms"]) == 2
    assert main(["bench", "--classes", "cat", "--model", "nano", "--repeats", "1"]) == 0
    assert "attention" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["bench", "--classes", "cat", "--size", "0x5"])
