"""The kernel table on the screen and as CSV."""

import pytest

from ovseg.ops.cuda.compile import nvrtc_reasons
from tools import kernel_table


@pytest.mark.skipif(bool(nvrtc_reasons()), reason="; ".join(nvrtc_reasons()))
def test_one_source_on_one_architecture(capsys):
    assert kernel_table.main(["--arch", "sm_90", "--source", "regions.cu"]) == 0
    out = capsys.readouterr().out
    assert "region_mean<__nv_bfloat16>" in out and "sm_90" in out and "no spills" in out
    assert "N = 16384" in out


def test_csv(tmp_path, monkeypatch):
    monkeypatch.setattr(kernel_table, "DOCS", tmp_path)
    kernel_table.write("table.csv", [{"kernel": "a<b, c>", "registers": 3}])
    assert kernel_table.read("table.csv") == [{"kernel": "a<b, c>", "registers": "3"}]
    assert kernel_table.read("none.csv") == []


def test_without_a_compiler_it_says_why(monkeypatch, capsys):
    monkeypatch.setattr(kernel_table, "nvrtc_reasons", lambda: ["no compiler"])
    assert kernel_table.main([]) == 2 and "no compiler" in capsys.readouterr().out
