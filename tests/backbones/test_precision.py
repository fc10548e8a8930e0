"""ovseg.backbones.precision: what ``precision="auto"`` becomes, and that it is measured once."""

import json
import math
import subprocess
import sys

import pytest
import torch
from torch import nn

from ovseg import Segmenter
from ovseg.backbones import precision
from ovseg.backbones.clip import ClipBackbone
from ovseg.backbones.precision import FP32, Measurement, Settled, checked, describe_precision, set_precision, settle
from ovseg.processor import Processor

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def folder(monkeypatch, tmp_path):
    """A cache of its own, and no choice from outside."""
    monkeypatch.delenv("OVSEG_PRECISION", raising=False)
    monkeypatch.setenv("OVSEG_CACHE", str(tmp_path))
    precision.measured.cache_clear()
    yield tmp_path
    precision.measured.cache_clear()


def times(monkeypatch, fp32: float, bf16: float) -> list[int]:
    """Makes the measurement give these times; the list grows by an entry per measurement."""
    calls: list[int] = []

    def measure() -> Measurement:
        calls.append(1)
        return Measurement(fp32, bf16)

    monkeypatch.setattr(precision, "measure", measure)
    return calls


@pytest.mark.parametrize(
    ("fp32", "bf16", "choice"), [(10, 5, "bf16"), (10, 17, "fp32"), (10, 9.5, "fp32"), (10, math.inf, "fp32")]
)
def test_cpu_takes_the_faster(monkeypatch, fp32, bf16, choice):
    times(monkeypatch, fp32, bf16)
    assert settle("auto", CPU) == Settled(choice, auto=True)
    assert str(settle("auto", CPU)) == f"{choice} (auto)"


@pytest.mark.parametrize(
    ("capability", "choice"), [((9, 0), "bf16"), ((8, 0), "bf16"), ((7, 5), "fp16"), ((6, 1), "fp32")]
)
def test_gpu_by_capability(monkeypatch, capability, choice):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert settle("auto", torch.device("cuda", 0)) == Settled(choice, auto=True)


def test_named_formats_are_not_measured(monkeypatch):
    calls = times(monkeypatch, 10, 5)
    assert [str(settle(name, CPU)) for name in ("fp32", "bf16", "fp16")] == ["fp32", "bf16", "fp16"]
    assert settle("auto", torch.device("meta")).base == "fp32" and not calls


def test_variable_pins_auto_only(monkeypatch):
    calls = times(monkeypatch, 10, 5)
    monkeypatch.setenv("OVSEG_PRECISION", "fp32")
    assert str(settle("auto", CPU)) == "fp32 (auto)" and settle("bf16", CPU).base == "bf16" and not calls
    monkeypatch.setenv("OVSEG_PRECISION", "fp23")
    with pytest.raises(ValueError, match="OVSEG_PRECISION is 'fp23'; choose one of auto, fp32"):
        settle("auto", CPU)


def test_measured_once_per_machine(monkeypatch, folder):
    calls = times(monkeypatch, 10, 5)
    assert precision.measured(1).choice == "bf16"
    precision.measured.cache_clear()  # as in another process
    assert precision.measured(1) == Measurement(10, 5) and len(calls) == 1
    precision.measured(2)
    assert len(calls) == 2 and len(list((folder / "machine").glob("*.json"))) == 2


@pytest.mark.parametrize(
    "damage", ["", "{", "[]", "null", '{"fp32_ms": 1}', "\0\0", "negative", "other machine", "text"]
)
def test_damaged_file_is_measured_again(monkeypatch, damage):
    calls = times(monkeypatch, 10, 5)
    precision.measured(1)
    path = precision.measurement_file(1)
    good = json.loads(path.read_text())
    changes = {"negative": {"fp32_ms": -1}, "other machine": {"cpu": "another"}, "text": {"bf16_ms": "fast"}}
    path.write_text(json.dumps(good | changes[damage]) if damage in changes else damage)
    precision.measured.cache_clear()
    assert precision.measured(1) == Measurement(10, 5) and len(calls) == 2
    assert json.loads(path.read_text()) == good


def test_folder_that_cannot_be_written(monkeypatch, tmp_path):
    calls = times(monkeypatch, 10, 5)
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("OVSEG_CACHE", str(tmp_path / "file"))
    assert precision.measured(1).choice == "bf16" and len(calls) == 1


def test_another_torch_or_cpu_is_another_file(monkeypatch):
    first = precision.measurement_file(1)
    monkeypatch.setattr(torch, "__version__", "2.99")
    second = precision.measurement_file(1)
    monkeypatch.setattr(precision, "processor", lambda: Processor("another", frozenset()))
    assert len({first, second, precision.measurement_file(1)}) == 3


def test_measurement_itself():
    state = torch.get_rng_state()
    with torch.inference_mode():  # wherever it is asked for
        found = precision.measure()
    assert found.fp32_ms > 0 and found.bf16_ms > 0 and found.choice in ("fp32", "bf16")
    assert torch.equal(torch.get_rng_state(), state)


def test_slow_bf16_is_not_timed_for_long():
    """A clock on which every bf16 run takes a hundred times as long as one in fp32."""
    now, runs = [0.0], []

    def clock() -> float:
        bf16 = torch.is_autocast_enabled("cpu")
        assert not bf16
        return now[0]

    def block(x):
        bf16 = torch.is_autocast_enabled("cpu")
        now[0] += 100.0 if bf16 else 1.0
        runs.append(bf16)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(precision, "_block", lambda: block)
        found = precision.measure(clock)
    assert found == Measurement(1e3, 1e5) and sum(runs) <= 2


@pytest.mark.parametrize("name", ["int4", "", "FP32", "bfloat16"])
def test_unknown_names(name):
    with pytest.raises(ValueError, match="choose one of auto, fp32, bf16, fp16, int8"):
        checked(name)
    with pytest.raises(ValueError, match="choose one of"):
        ClipBackbone("nano", precision=name or "none")


class Model(nn.Module):
    """Two encoders, one of which states its precision, and a region source with a third."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone, self.guide = encoder(None), encoder("bf16")
        self.regions = nn.Module()
        self.regions.backbone = encoder("fp32")


def encoder(name: str | None) -> precision.MixedPrecision:
    made = precision.MixedPrecision(name)
    made.layer = nn.Linear(1, 1)
    return made


def test_entry_points_choose_where_nothing_is_stated(monkeypatch):
    times(monkeypatch, 10, 17)
    model = Model()
    assert describe_precision(model) == ["fp32", "bf16"]
    set_precision(model, "auto", unstated_only=True)
    assert describe_precision(model) == ["fp32 (auto)", "bf16"]
    set_precision(model, "auto")
    assert describe_precision(model) == ["fp32 (auto)"] * 2
    assert model.regions.backbone.precision == "fp32", "masks on disk belong to what the config says"


def test_segmenter(monkeypatch):
    times(monkeypatch, 10, 5)
    model = Segmenter("nano", "clearclip")
    assert model.model.describe()["precision"] == "bf16 (auto)"
    assert Segmenter("nano", "clearclip", precision="fp32").model.describe()["precision"] == "fp32"


def test_blocks_compute_in_what_was_settled(monkeypatch):
    times(monkeypatch, 10, 5)
    seen = []
    model = ClipBackbone("nano", precision="auto")
    model.tower.blocks[1].register_forward_hook(lambda *_: seen.append(torch.is_autocast_enabled("cpu")))
    for name in ("auto", "fp32"):
        model.precision = name
        model._run(torch.zeros(1, 3, 32, 32), (), model.settled)
    assert seen == [True, False]


def test_int8_is_refused_where_it_cannot_be(monkeypatch):
    monkeypatch.setattr(precision, "int8_reasons", lambda: ("this CPU (x) has none of y",))
    with pytest.raises(ValueError, match="precision is 'int8', but this CPU"):
        ClipBackbone("nano", precision="int8")
    monkeypatch.setattr(precision, "int8_reasons", lambda: ())
    monkeypatch.setattr(precision.kernels, "packing_reasons", lambda: ())
    with pytest.raises(ValueError, match="CPUs only, not on cuda"):
        settle("int8", torch.device("cuda", 0))
    monkeypatch.setattr(precision.kernels, "packing_reasons", lambda: ("OVSEG_PACKED_LINEAR=0",))
    with pytest.raises(ValueError, match="OVSEG_PACKED_LINEAR=0"):
        settle("int8", CPU)


def test_int8_spares_the_first_and_the_last_block():
    settled = Settled("fp32", int8=True)
    inside = []
    for i in range(4):
        with settled.layers(i, 4):
            inside.append(precision.kernels._factors.get())
    assert inside == [None, torch.int8, torch.int8, None] and precision.kernels._factors.get() is None
    with Settled("bf16", int8=True).last_block():
        assert precision.kernels._factors.get() == torch.bfloat16
    for plain in (FP32, Settled("bf16")):
        with plain.layers(1, 4), plain.last_block():
            assert precision.kernels._factors.get() is None


def test_processes_that_start_together_agree(folder):
    code = "import torch; torch.set_num_threads(1); from ovseg.backbones.precision import measured; print(measured(1))"
    processes = [
        subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, start_new_session=True)
        for _ in range(2)
    ]
    said = {process.communicate(timeout=300)[0] for process in processes}
    assert len(said) == 1 and all(process.returncode == 0 for process in processes)


def test_another_number_of_threads_does_not_change_a_model_in_use(monkeypatch):
    """A job that set --threads after it had loaded its model computed in bf16 what its record called fp32."""
    monkeypatch.delenv(precision.ENVIRONMENT_VARIABLE, raising=False)
    monkeypatch.setattr(precision, "fastest", lambda device: "bf16" if torch.get_num_threads() == 1 else "fp32")
    module = precision.MixedPrecision("auto")
    module.weight = torch.nn.Parameter(torch.zeros(1))
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    assert module.settled.base == "fp32"
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    assert module.settled.base == "fp32", "settled at first use"
    module.precision = "bf16"
    assert module.settled.base == "bf16"
    module.precision = "auto"
    assert module.settled.base == "bf16", "asked anew"
    monkeypatch.setenv(precision.ENVIRONMENT_VARIABLE, "fp32")
    assert module.settled.base == "fp32"
