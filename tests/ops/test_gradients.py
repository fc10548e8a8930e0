"""Backward passes of the attentions against autograd through the definitions."""

import pytest
import torch
import torch.nn.functional as F

from ovseg import ops
from ovseg.ops import reference, torch_attention

G = torch.Generator().manual_seed(0)


def normal(*shape):
    return torch.randn(*shape, generator=G)


def compare(public, definition, tensors):
    """Gradients of a random projection of the output."""
    leaves = [t.clone().requires_grad_() for t in tensors]
    result = public(*leaves)
    weight = normal(*result.shape)
    gradients = torch.autograd.grad((result * weight).sum(), leaves)
    leaves = [t.clone().requires_grad_() for t in tensors]
    expected = torch.autograd.grad((definition(*leaves) * weight).sum(), leaves)
    for gradient, correct in zip(gradients, expected, strict=True):
        torch.testing.assert_close(gradient, correct, atol=1e-5, rtol=1e-4)
        assert correct.abs().max() > 1e-3


@pytest.mark.parametrize("normaliser", ["softmax", "sum"])
@pytest.mark.parametrize("with_regions", [False, True])
def test_correlation_attention(normaliser, with_regions, monkeypatch):
    monkeypatch.setattr(torch_attention, "ROW_ELEMENTS", 200)  # several blocks of rows
    features, values = F.normalize(normal(2, 30, 6) + 1, dim=-1), normal(2, 30, 5)
    ids = torch.arange(60).view(2, 30) % 3 if with_regions else None
    lowest = None if ids is None else ids.amin(1)
    compare(
        lambda f, v: ops.correlation_attention(f, v, scale=3.0, beta=1.1, region_ids=ids, normaliser=normaliser),
        lambda f, v: reference.correlation_attention(f, v, 3.0, 1.1, 0.0, "sample", ids, lowest, normaliser, "self"),
        (features, values),
    )


def test_only_the_needed_gradients_are_made():
    features, values = F.normalize(normal(1, 9, 6), dim=-1), normal(1, 9, 5).requires_grad_()
    ops.correlation_attention(features, values, scale=3.0).sum().backward()
    torch.testing.assert_close(values.grad.sum(), torch.tensor(45.0))  # every row of weights sums to 1


@pytest.mark.parametrize("combine", ["sum", "softmax"])
def test_self_self_attention(combine):
    compare(
        lambda q, k, v: ops.self_self_attention(
            q, k, v, terms=("qq", "kk"), combine=combine, neighbour_std=2.0, grid=(3, 4)
        ),
        lambda q, k, v: reference.self_self_attention(q, k, v, "qk", 0.5, combine, (3, 4), 2.0),
        [normal(1, 2, 13, 4) for _ in range(3)],
    )


def test_inputs_that_the_terms_leave_out_have_no_gradient():
    q, k, v = (normal(1, 2, 13, 4).requires_grad_() for _ in range(3))
    ops.self_self_attention(q, k, v, terms=("qq",)).square().sum().backward()
    assert q.grad.abs().max() > 1e-3 and v.grad.abs().max() > 1e-3 and (k.grad is None or not k.grad.any())


def test_decomposed_attention():
    tensors = [normal(1, 2, 12, 4) for _ in range(3)] + [normal(3, 3, 4), normal(4, 4, 4)]
    compare(ops.decomposed_attention, lambda *tensors: reference.decomposed_attention(*tensors, 0.5), tensors)
