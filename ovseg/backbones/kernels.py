"""Linear layers, feed-forward and attention of frozen encoders: torch's own, and on the CPU a faster way to the same.

PyTorch's fp32 ``linear`` on the CPU calls MKL, and its bf16 one lets oneDNN rearrange the weight at every call. A
frozen weight can be rearranged ("packed") once, as torch.compile does: fp32 gets 1.4 times and bf16 1.15 times faster
on an AMD Zen 4 core, activations ride along for free, and rows of a product no longer depend on how many there are.
Where packing does not apply (training, CUDA, tracing, a torch without these operators) plain torch runs. A packed copy
is used only while the weight holds what it was made from (:mod:`ovseg.content`); a weight for which that cannot be told
cheaply is not packed.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache
from itertools import product
from threading import Lock

import torch
import torch.nn.functional as F
from open_clip.transformer import QuickGELU
from torch import Tensor, nn
from torch.utils.weak import WeakTensorKeyDictionary

from ovseg.backbones import int8
from ovseg.content import Watch, barrier_reasons, watchable
from ovseg.ops.torch_sam import BLOCK_BYTES
from ovseg.processor import has_matrix_tiles

ENVIRONMENT_VARIABLE = "OVSEG_PACKED_LINEAR"
QUICK = 1.702
"""Factor of QuickGELU, ``x * sigmoid(1.702 x)``."""
HIDDEN_BYTES = 24 << 20
"""What lies between the two layers of a feed-forward at once on the CPU: the C library keeps blocks below 32 MiB for
the next call, larger ones come fresh from the system each time, which costs 2 us per 4 KiB."""
ROWS_FROM = 256
"""From so many tokens on a head's logits are made by rows; below, those of several heads at once."""

_packed: WeakTensorKeyDictionary = WeakTensorKeyDictionary()
_lock = Lock()
_factors: ContextVar[torch.dtype | None] = ContextVar("what packed layers multiply", default=None)


@contextmanager
def layers_in(dtype: torch.dtype) -> Iterator[None]:
    """In this context packed layers multiply ``dtype`` (int8 as in :mod:`ovseg.backbones.int8`, or bf16).

    What they give has the type that it would have without.
    """
    token = _factors.set(dtype)
    try:
        yield
    finally:
        _factors.reset(token)


@lru_cache(maxsize=1)
def packing_reasons() -> tuple[str, ...]:
    """Why linear layers are not packed on this machine; empty if they are."""
    reasons = []
    if os.environ.get(ENVIRONMENT_VARIABLE, "1").strip() == "0":
        reasons.append(f"{ENVIRONMENT_VARIABLE}=0")
    if not torch.backends.mkldnn.is_available():
        reasons.append("this torch has no oneDNN")
    for name in ("_reorder_linear_weight", "_linear_pointwise"):
        if not hasattr(torch.ops.mkldnn, name):
            reasons.append(f"this torch has no operator mkldnn.{name}")
    return (*reasons, *barrier_reasons("cpu"))


def compute_dtype(x: Tensor) -> torch.dtype:
    """The type a linear layer computes in: autocast's, where that is on."""
    device = x.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype


@lru_cache(maxsize=1)
def _packable() -> tuple[torch.dtype, ...]:
    """Types whose products oneDNN packs weights for on this machine."""
    bf16 = getattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: False)()
    return (torch.float32, torch.bfloat16) if bf16 else (torch.float32,)


def _packs(x: Tensor, *weights: Tensor) -> bool:
    trained = torch.is_grad_enabled() and (x.requires_grad or any(weight.requires_grad for weight in weights))
    return (
        x.device.type == "cpu"
        and not trained
        and not torch.compiler.is_compiling()
        and compute_dtype(x) in _packable()
        and x.numel() > 0
        and not packing_reasons()
        and all(weight in _packed or watchable(weight) for weight in weights)
    )


def _prepared(
    weight: Tensor, bias: Tensor | None, rows: slice, dtype: torch.dtype, scales: tuple[float, float]
) -> tuple[Tensor | None, ...]:
    """Packed weight (of int8: its scales and zero points too) and bias.

    Made once per (rows, dtype, scales), and again after either was changed in any way.
    """
    key, sources = (rows.start, rows.stop, dtype, scales), [t for t in (weight, bias) if t is not None]
    found = _packed.get(weight, {}).get(key)
    if found is not None and found[0].holds(sources):
        return found[1:]
    # what outlives the call is no inference tensor: it may be met outside inference mode next
    with _lock, torch.inference_mode(False), torch.no_grad():
        watch = Watch(sources)
        offset = None if bias is None else bias.detach()[rows].float() * scales[1]
        if dtype == torch.int8:
            made = *int8.pack(weight.detach().flatten(1)[rows] * scales[0]), offset
        else:
            part = (weight.detach().flatten(1)[rows].float() * scales[0]).to(dtype).contiguous()
            made = torch.ops.mkldnn._reorder_linear_weight(part, None), None if offset is None else offset.to(dtype)
        if all(watchable(source) for source in sources):
            _packed.setdefault(weight, {})[key] = (watch, *made)
        else:  # handed out since: nothing would tell when it changes
            _packed.pop(weight, None)
    return made


def _run_int8(x: Tensor, weight: Tensor, bias: Tensor | None, rows: slice, scales=(1.0, 1.0)) -> Tensor:
    """Rows ``[n, in]`` to fp32 ``[n, out]``."""
    return int8.product(x, *_prepared(weight, bias, rows, torch.int8, scales))


def _run(x: Tensor, weight: Tensor, bias: Tensor | None, rows: slice, activation: str, scales=(1.0, 1.0)) -> Tensor:
    dtype = _factors.get() or compute_dtype(x)
    packed, offset = _prepared(weight, bias, rows, dtype, scales)
    algorithm = "none" if activation == "gelu" else ""
    return torch.ops.mkldnn._linear_pointwise(x.to(dtype), packed, offset, activation, [], algorithm)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None, rows: slice = slice(None)) -> Tensor:
    """``x @ weight[rows].T + bias[rows]``, in autocast's type where autocast is on.

    Args:
        x: ``[..., in]``, float32 or bfloat16 (others go to torch as they are).
        weight: ``[out, in]``; axes after the first count as one, so that a convolution's weight will do.
        bias: ``[out]`` or None.
        rows: which outputs are wanted.
    """
    if not _packs(x, weight):
        return F.linear(x, weight.flatten(1)[rows], None if bias is None else bias[rows])
    dtype = compute_dtype(x)
    if _factors.get() == torch.int8:
        tokens = x.flatten(0, -2)
        out = torch.empty(len(tokens), len(range(len(weight))[rows]), dtype=dtype)
        for part, place in zip(tokens.split(int8.ROWS), out.split(int8.ROWS), strict=True):
            place.copy_(_run_int8(part, weight, bias, rows))
        return out.unflatten(0, x.shape[:-1])
    return _run(x, weight, bias, rows, "none").to(dtype)


def is_plain(layer: nn.Module) -> bool:
    """Whether a layer is its weight and bias and nothing else (no adapter, no hook, no parametrisation)."""
    kinds = (nn.Linear, nn.modules.linear.NonDynamicallyQuantizableLinear, nn.Conv2d)
    return type(layer) in kinds and not layer._forward_hooks and not layer._forward_pre_hooks


def apply_linear(x: Tensor, layer: nn.Module, rows: slice = slice(None)) -> Tensor:
    """``layer(x)[..., rows]``, by :func:`linear` where the layer :func:`is_plain`."""
    if is_plain(layer):
        return linear(x, layer.weight, layer.bias, rows)
    return layer(x)[..., rows]


def patch_embedding(images: Tensor, layer: nn.Module) -> Tensor:
    """``layer(images)`` for patches that neither overlap nor leave gaps: ``[B, c, H, W]`` to ``[B, h, w, d]``.

    As a linear layer on the pixels of each patch it takes half the time of the convolution. A network in the place of
    the convolution (a stem, see :mod:`ovseg.weights.hybrid`) runs as it is.

    Raises:
        ValueError: if the layer's kernel, stride, padding and groups are not those of separate patches.
    """
    if not isinstance(layer, nn.Conv2d):
        return layer(images).permute(0, 2, 3, 1)
    settings = (layer.stride, layer.padding, layer.dilation, layer.groups)
    if settings != (layer.kernel_size, (0, 0), (1, 1), 1):
        raise ValueError(f"layer: {layer} does not cut an image into patches; its stride must equal its kernel size")
    if not (is_plain(layer) and _packs(images, layer.weight)):
        return layer(images).permute(0, 2, 3, 1)
    height, width = layer.kernel_size
    images = images[..., : images.shape[2] // height * height, : images.shape[3] // width * width]
    patches = images.unflatten(3, (-1, width)).unflatten(2, (-1, height)).permute(0, 2, 4, 1, 3, 5).flatten(3)
    return linear(patches, layer.weight, layer.bias)


def feed_forward(x: Tensor, first: nn.Linear, activation: nn.Module, second: nn.Linear) -> Tensor:
    """``second(activation(first(x)))``, ``[..., d] -> [..., d]``; GELU and QuickGELU run inside the first product."""
    if not (is_plain(first) and is_plain(second) and _packs(x, first.weight, second.weight)):
        return second(activation(first(x)))
    fits = max(1, HIDDEN_BYTES // (first.out_features * compute_dtype(x).itemsize))
    rows, step = x.flatten(0, -2), int8.ROWS if _factors.get() == torch.int8 else fits
    if len(rows) > step:
        parts = rows.tensor_split(-(-len(rows) // step))
        return torch.cat([feed_forward(p, first, activation, second) for p in parts]).unflatten(0, x.shape[:-1])
    everything, dtype = slice(None), compute_dtype(x)
    if _factors.get() == torch.int8:
        scale = QUICK if isinstance(activation, QuickGELU) else 1.0  # as below
        hidden = _run_int8(rows, first.weight, first.bias, everything, (scale, scale))
        hidden = F.silu(hidden, inplace=True) if scale == QUICK else activation(hidden)
        hidden = _run_int8(hidden, second.weight, second.bias, everything, (1 / scale, 1.0))
        return hidden.to(dtype).unflatten(0, x.shape[:-1])
    if isinstance(activation, nn.GELU) and activation.approximate == "none":
        hidden = _run(x, first.weight, first.bias, everything, "gelu")
        return _run(hidden, second.weight, second.bias, everything, "none").to(dtype)
    if isinstance(activation, QuickGELU):
        # x sigmoid(c x) = swish(c x) / c: the factor goes into the weights
        hidden = _run(x, first.weight, first.bias, everything, "swish", (QUICK, QUICK))
        return _run(hidden, second.weight, second.bias, everything, "none", (1 / QUICK, 1.0)).to(dtype)
    hidden = activation(_run(x, first.weight, first.bias, everything, "none"))
    return _run(hidden, second.weight, second.bias, everything, "none").to(dtype)


def attention(q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
    """``softmax(scale q k^T) v``, heads side by side again.

    torch's fused attention, but for bf16 on a CPU without matrix tiles (AMX): there it multiplies in fp32, and blocks
    of logits rounded to bf16, of rows of one head or of several short heads, are 1.4 to 1.7 times faster.

    Args:
        q, k, v: ``[B, heads, N, d / heads]``.
        scale: factor of the logits.

    Returns:
        ``[B, N, d]``.
    """
    blocks = q.device.type == "cpu" and q.dtype == torch.bfloat16 and torch.bfloat16 in _packable()
    if not blocks or torch.is_grad_enabled() or torch.compiler.is_compiling() or has_matrix_tiles():
        return F.scaled_dot_product_attention(q, k, v, scale=scale).transpose(1, 2).flatten(2)
    batch, heads, count, width = v.shape
    if count < ROWS_FROM:
        step = max(1, BLOCK_BYTES // q.itemsize // count**2)
        parts = zip(*(t.flatten(0, 1).split(step) for t in (q * scale, k, v)), strict=True)
        mixed = torch.cat([torch.bmm(torch.bmm(a, b.mT).softmax(-1), c) for a, b, c in parts])
        return mixed.unflatten(0, (batch, heads)).transpose(1, 2).flatten(2)
    out = v.new_empty(batch, count, heads, width)
    step = max(1, BLOCK_BYTES // q.itemsize // count)
    for b, h in product(range(batch), range(heads)):
        queries, keys, values = (q[b, h] * scale).contiguous(), k[b, h].contiguous().mT, v[b, h].contiguous()
        for start in range(0, count, step):
            part = slice(start, start + step)
            logits = queries[part] @ keys
            out[b, part, h] = torch.softmax(logits, -1, out=logits) @ values
    return out.flatten(2)
