"""Puts the tensors of a checkpoint into a model, or says in one sentence why they do not fit."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from os import PathLike
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from ovseg.float32 import all_finite

from .errors import CheckpointError
from .signatures import describe

Model = TypeVar("Model", bound=nn.Module)
SHOWN = 5  # names of each kind of mismatch that an error message lists


class _SkipInitialisation(TorchFunctionMode):
    """In-place writes to parameters do nothing.

    Random initialisation is nearly all of the time it takes to build a model, for values that the checkpoint replaces.
    Buffers are computed as usual: a mask or a rotary table that is not in the checkpoint has to be right.
    """

    def __torch_function__(self, func: Callable, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        target = args[0] if args else kwargs.get("tensor")
        if (
            name.endswith("_")
            and not name.endswith("__")
            and name != "requires_grad_"
            and isinstance(target, nn.Parameter)
        ):
            return target
        return func(*args, **kwargs)


@contextmanager
def skip_initialisation() -> Iterator[None]:
    """Models built inside have parameters of undefined value; every one of them has to be loaded afterwards.

    Also leaves inference mode: parameters made in it could never be trained or cast.
    """
    with torch.inference_mode(False), torch.device("cpu"), _SkipInitialisation():
        yield


def assemble(
    model: Model,
    weights: Mapping[str, Tensor],
    path: str | PathLike[str],
    expected: str,
    optional: Collection[str] = (),
    whole: Mapping[str, Tensor] | None = None,
    name: Callable[[str], str] = str,
) -> Model:
    """Loads ``weights`` strictly into ``model``, as fp32, and sets it to evaluation mode.

    Args:
        model: Module built under :func:`skip_initialisation`; becomes the owner of the tensors.
        weights: Tensors by the model's own keys.
        path: The file they came from, for the error message.
        expected: What the model is, for the error message, e.g. ``openai/ViT-B-16 (open_clip ViT-B-16-quickgelu)``.
        optional: Keys of ``weights`` that may be ignored when the model has no place for them.
        whole: All tensors of the file by its own keys, for the error message, where ``weights`` are a part of them.
        name: A key of the model to the file's own name of it, for the error message.

    Raises:
        CheckpointError: Keys are missing, unexpected, or of another shape; a weight holds NaN or infinite values.
    """
    own = model.state_dict()
    weights = {key: value for key, value in weights.items() if key in own or key not in optional}
    missing = list(dict.fromkeys(name(key) for key in own if key not in weights))
    unexpected = list(dict.fromkeys(name(key) for key in weights if key not in own))
    conflicts = [
        f"{name(key)} {tuple(weights[key].shape)} instead of {tuple(value.shape)}"
        for key, value in own.items()
        if key in weights and weights[key].shape != value.shape
    ]
    if missing or unexpected or conflicts:
        kinds = (("missing", missing), ("unexpected", unexpected), ("of another shape", conflicts))
        found = describe(weights if whole is None else whole)
        problem = "; ".join(f"{len(keys)} {kind}: {_some(keys)}" for kind, keys in kinds if keys)
        raise CheckpointError(
            path,
            f"does not fit {expected}. The file looks like {found}. Keys {problem}",
            "Give the file of this model, or the name this file belongs to (`ovseg weights list`)",
        )
    learned = {key for key, _ in model.named_parameters()}  # buffers may: a causal mask is -inf
    lost = [name(key) for key, value in weights.items() if key in learned and not all_finite(value)]
    if lost:
        raise CheckpointError(
            path,
            f"holds NaN or infinite values in {len(lost)} of {len(weights)} weights: {_some(lost)}",
            "A training that diverged leaves such a file: give an earlier checkpoint, or get the file again",
        )
    with torch.inference_mode(False), torch.no_grad():
        full = {key: value.float() if value.is_floating_point() else value for key, value in weights.items()}
        model.load_state_dict(full, strict=True, assign=True)
    return model.float().eval()  # buffers that are not in the file follow torch's default dtype


def _some(keys: list[str]) -> str:
    return ", ".join(keys[:SHOWN]) + (", ..." if len(keys) > SHOWN else "")
