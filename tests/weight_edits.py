"""Ways in which users change the weights of a model that has worked already."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import nn


def _noise(parameter: nn.Parameter) -> torch.Tensor:
    generator = torch.Generator().manual_seed(parameter.numel())
    return torch.randn(parameter.shape, generator=generator).to(parameter) * (parameter.detach().std() + 0.01)


def _parameters(module: nn.Module) -> list[nn.Parameter]:
    return [p for p in module.parameters() if p.ndim >= 2]


def data_add(module: nn.Module) -> nn.Module:
    for p in _parameters(module):
        p.data.add_(_noise(p))
    return module


def data_copy(module: nn.Module) -> nn.Module:
    for p in _parameters(module):
        p.data.copy_(p.data + _noise(p))
    return module


def one_value(module: nn.Module) -> nn.Module:
    """One number of each matrix, by way of ``.data``: a sample of the content would not see it."""
    for p in _parameters(module):
        p.data[p.shape[0] // 2].view(-1)[3] += 20 * (p.data.std() + 0.05)
    return module


def numpy_alias(module: nn.Module) -> nn.Module:
    for p in _parameters(module):
        p.detach().numpy()[...] += _noise(p).numpy()
    return module


def load_state_dict(module: nn.Module) -> nn.Module:
    module.load_state_dict({name: _changed(value) for name, value in module.state_dict().items()})
    return module


def load_assign(module: nn.Module) -> nn.Module:
    module.load_state_dict({name: _changed(value) for name, value in module.state_dict().items()}, assign=True)
    return module


def _changed(value: torch.Tensor) -> torch.Tensor:
    return value + _noise(value) if value.ndim >= 2 and value.is_floating_point() else value.clone()


def replacement(module: nn.Module) -> nn.Module:
    for part in module.modules():
        for name, p in list(part.named_parameters(recurse=False)):
            if p.ndim >= 2:
                setattr(part, name, nn.Parameter(p.detach() + _noise(p), requires_grad=p.requires_grad))
    return module


def data_replacement(module: nn.Module) -> nn.Module:
    for p in _parameters(module):
        p.data = p.data + _noise(p)
    return module


def optimiser_step(module: nn.Module) -> nn.Module:
    wanted = [p.requires_grad for p in module.parameters()]
    parameters = [p.requires_grad_(True) for p in _parameters(module)]
    for p in parameters:
        p.grad = _noise(p)
    torch.optim.AdamW(parameters, lr=0.05).step()
    for p, flag in zip(module.parameters(), wanted, strict=True):
        p.requires_grad_(flag)
        p.grad = None
    return module


def ema_swap(module: nn.Module) -> nn.Module:
    """As MMEngine's EMAHook does it: the two models exchange what is in their tensors."""
    average = data_add(copy.deepcopy(module))
    for mine, theirs in zip(module.state_dict().values(), average.state_dict().values(), strict=True):
        kept = mine.data.clone()
        mine.data.copy_(theirs.data)
        theirs.data.copy_(kept)
    return module


def lora_merge(module: nn.Module) -> nn.Module:
    generator = torch.Generator().manual_seed(0)
    for p in _parameters(module):
        rows, columns = p.shape[0], p[0].numel()
        a, b = torch.randn(rows, 2, generator=generator), torch.randn(2, columns, generator=generator)
        p.data += (p.data.std() * (a @ b)).view_as(p)
    return module


def changed_copy(module: nn.Module) -> nn.Module:
    return data_add(copy.deepcopy(module))


def vector(module: nn.Module) -> nn.Module:
    """All weights become views of one vector, which is then written to."""
    parameters = _parameters(module)
    flat = torch.cat([(p.detach() + _noise(p)).flatten() for p in parameters])
    nn.utils.vector_to_parameters(flat, parameters)
    return module


EDITS: dict[str, Callable[[nn.Module], nn.Module]] = {
    edit.__name__: edit
    for edit in (
        data_add,
        data_copy,
        one_value,
        numpy_alias,
        load_state_dict,
        load_assign,
        replacement,
        data_replacement,
        optimiser_step,
        ema_swap,
        lora_merge,
        changed_copy,
        vector,
    )
}
