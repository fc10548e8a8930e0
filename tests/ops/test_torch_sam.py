"""The forms of SAM's attention in ovseg.ops.torch_sam, in blocks of every size, against the definition."""

import pytest
import torch
from torch import Tensor

from ovseg import ops
from ovseg.ops import torch_sam

FORMS = {"heads": torch_sam.attention_by_heads, "rows": torch_sam.attention_by_rows}


def inputs(dtype: torch.dtype, batch: int = 3, grid: tuple[int, int] = (7, 5)) -> tuple[Tensor, ...]:
    """q, k, v as views of one tensor, as the encoder has them, and position tables."""
    torch.manual_seed(0)
    q, k, v = torch.randn(batch, grid[0] * grid[1], 3, 2, 8).to(dtype).permute(2, 0, 3, 1, 4)
    return q, k, v, *(ops.relative_positions(torch.randn(2 * n - 1, 8) * 0.3, n) for n in grid)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("block", [1, 1500, 20_000, 1 << 20])  # bytes: a row, part of a head, a sample, everything
def test_blocks_of_any_size_give_the_definition(monkeypatch, form, dtype, block):
    monkeypatch.setattr(torch_sam, "BLOCK_BYTES", block)
    q, k, v, *tables = inputs(dtype)
    result = FORMS[form](q, k, v, *tables, 0.4)
    expected = ops.decomposed_attention(q.float(), k.float(), v.float(), *tables, scale=0.4, backend="reference")
    assert result.dtype == dtype and result.shape == v.shape
    error = (result.float() - expected).norm() / expected.norm()
    assert error < {torch.float32: 1e-6, torch.bfloat16: 2e-2, torch.float16: 2e-3}[dtype]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_sample_does_not_depend_on_the_batch(form, dtype):
    q, k, v, *tables = inputs(dtype, batch=9, grid=(14, 14))
    together = FORMS[form](q, k, v, *tables, 0.4)
    alone = torch.cat([FORMS[form](*(t[b : b + 1] for t in (q, k, v)), *tables, 0.4) for b in range(9)])
    assert torch.equal(together, alone)


def test_small_grids_are_taken_by_heads_and_large_ones_by_rows(monkeypatch):
    used = []
    for form in ("attention_by_heads", "attention_by_rows"):
        monkeypatch.setattr(torch_sam, form, lambda *args, form=form: used.append(form) or args[2].clone())
    for grid in ((14, 14), (40, 40)):
        q, k, v, *tables = inputs(torch.float32, 1, grid)
        ops.decomposed_attention(q, k, v, *tables, backend="torch")
    assert used == ["attention_by_heads", "attention_by_rows"]


def test_values_are_laid_out_as_they_came():
    """Views of [B, N, 3, heads, hd]: then heads lie side by side, and the caller can flatten them without a copy."""
    q, k, v, *tables = inputs(torch.float32)
    for form in FORMS.values():
        assert form(q, k, v, *tables, 0.4).transpose(1, 2).is_contiguous()
