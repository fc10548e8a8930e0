"""ovseg.processor."""

import pytest
import torch

from ovseg import processor as module

CPUINFO = """processor\t: 0
model name\t: Some Xeon
flags\t\t: fpu avx2 avx512_vnni
bugs\t\t:
"""


@pytest.fixture(autouse=True)
def fresh():
    module.processor.cache_clear()
    yield
    module.processor.cache_clear()


def test_torchs_names(monkeypatch):
    capabilities = {"cpu_name": "A CPU", "avx2": True, "amx_bf16": True, "avx512_vnni": False, "num_sockets": 1}
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    assert module.processor() == module.Processor("A CPU", frozenset({"avx2", "amx_bf16"}))
    assert module.has_matrix_tiles()


def test_linux_names_where_torch_has_none(monkeypatch, tmp_path):
    (tmp_path / "cpuinfo").write_text(CPUINFO)
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    monkeypatch.setattr(module, "Path", lambda _: tmp_path / "cpuinfo")
    assert module.processor() == module.Processor("Some Xeon", frozenset({"fpu", "avx2", "avx512_vnni"}))
    assert not module.has_matrix_tiles()


def test_nothing_known(monkeypatch, tmp_path):
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    monkeypatch.setattr(module, "Path", lambda _: tmp_path / "absent")
    assert module.processor().name and not module.processor().flags
