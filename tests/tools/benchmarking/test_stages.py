"""The tracer counts every moment once and leaves no trace."""

import pytest
import torch

from ovseg.apis import config_root
from tools.benchmarking import clock as clocks
from tools.benchmarking.clock import Clock, PeakMemory, median_ratio
from tools.benchmarking.methods import build_job, scene_photo
from tools.benchmarking.report import stage_rows, stage_table, write_csv
from tools.benchmarking.stages import STAGES, Tracer, boundaries, measure_stages

CONFIG = config_root() / "nano" / "sclip_nano_scenes.py"


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    try:
        photo = scene_photo((64, 96), tmp_path_factory.mktemp("photo"))
    except FileNotFoundError as error:
        pytest.skip(str(error))
    return build_job(CONFIG, photo, "fp32")


class FakeClock(Clock):
    """Every look at it is one second later."""

    def __init__(self):
        super().__init__()
        self.seconds = 0.0

    def now(self):
        self.seconds += 1.0
        return self.seconds


def test_inner_stages_are_not_counted_twice():
    tracer = Tracer(FakeClock())

    def work():
        with tracer.stage("stitch"), tracer.stage("SAM"):
            pass
        with tracer.stage("SAM"):
            pass

    figures = tracer.run(work)
    # boundaries at 1..8: rest, stitch, SAM, stitch, rest, SAM, rest
    assert figures.seconds == {"rest": 3.0, "stitch": 2.0, "SAM": 2.0}
    assert figures.total == 7.0


def test_a_failing_run_leaves_the_model_as_it_was(job):
    points = boundaries(job.model)
    before = [name in vars(owner) for owner, name, _ in points]
    tracer = Tracer(Clock())
    with pytest.raises(RuntimeError, match="stop"), tracer.attached(job.model), tracer.stage("rest"):
        assert "cut" in vars(job.model.windows)
        raise RuntimeError("stop")
    assert [name in vars(owner) for owner, name, _ in points] == before
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in job.model.modules())


def test_stages_of_a_method(job):
    figures = measure_stages(job, "fp32", "standin", 1, Clock(), roofline=1e11)
    assert {"load", "windows", "CLIP", "attention", "argmax", "metric", "rest"} <= set(figures.seconds) <= set(STAGES)
    assert all(value >= 0 for value in figures.seconds.values())
    assert figures.flops["CLIP"] > figures.flops["attention"] > 0
    assert 0 < figures.roofline_share("CLIP")
    if PeakMemory().available:
        assert figures.peak > 2**20


def test_flops_are_those_of_the_layers(job):
    """12 d^2 per token and block, and the attention: counted within a few per cent (norms and positions are not)."""
    tower = job.model.backbone.tower
    tracer = Tracer(Clock(), flops=True)
    with tracer.attached(job.model):
        flops = tracer.run(job.predict).flops
    windows = job.model.windows
    layout = windows.layout(*job.item["inputs"].shape[1:], tower.patch_size)
    tokens = 1 + (layout.padded[0] // tower.patch_size) * (layout.padded[1] // tower.patch_size)
    blocks, width = len(tower.blocks) - 1, tower.width
    hidden = tower.blocks[0].block.mlp.c_fc.out_features
    per_token = 2 * (4 * width**2 + 2 * width * hidden) + 4 * tokens * width
    expected = len(layout) * tokens * blocks * per_token
    assert expected * 0.98 < flops["CLIP"] < expected * 1.25


def test_rows_and_table(job, tmp_path):
    figures = measure_stages(job, "bf16", "standin", 1, Clock(), roofline=1e11)
    rows = stage_rows([figures], {"cpu": "a, processor", "threads": 1})
    assert rows[-1]["stage"] == "total" and rows[-1]["images_per_s"] > 0
    assert sum(row["share"] for row in rows[:-1]) == pytest.approx(1, abs=0.01)
    write_csv(tmp_path / "deep" / "out.csv", rows)
    assert len((tmp_path / "deep" / "out.csv").read_text().splitlines()) == len(rows) + 1
    assert stage_table([figures]).row_count == 1


def test_memory_of_a_call_is_seen():
    memory = PeakMemory()
    if not memory.available:
        pytest.skip("no /proc/self/clear_refs on this system")
    grown = memory.growth(lambda: torch.ones(32 * 2**20, dtype=torch.uint8).amax())
    assert 30 * 2**20 < grown < 80 * 2**20


def test_ratios_are_taken_within_repeats():
    assert median_ratio([10.0, 100.0, 30.0], [1.0, 20.0, 10.0]) == 5.0


def test_unknown_clock_and_named_machine():
    with pytest.raises(ValueError, match="clock"):
        Clock("sun")
    facts = clocks.machine()
    assert facts["threads"] == torch.get_num_threads() and facts["torch"] == torch.__version__
