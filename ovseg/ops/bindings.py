"""``torch.ops.ovseg.*``: the operators as torch.compile and export see them, each with a shape-only fake.

The bodies are never run: `ovseg.ops.dispatch.custom_op` routes every call to the selected back-end.
"""

# No `from __future__ import annotations` here: torch.library infers the schema from real annotations.
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from ovseg.ops import torch_attention, torch_sam
from ovseg.ops.dispatch import custom_op


def _differentiate(operator: Any, differentiable: Callable) -> None:
    """Give ``operator`` a backward pass: recompute through a differentiable form of bounded memory.

    Only the inputs are kept, never an attention matrix.
    """

    def setup_context(ctx, inputs, output):
        ctx.is_tensor = [isinstance(value, Tensor) for value in inputs]
        ctx.others = [value for value in inputs if not isinstance(value, Tensor)]
        ctx.save_for_backward(*(value for value in inputs if isinstance(value, Tensor)))

    def backward(ctx, gradient):
        tensors, others = iter(ctx.saved_tensors), iter(ctx.others)
        inputs = [next(tensors) if is_tensor else next(others) for is_tensor in ctx.is_tensor]
        leaves = {}
        for position, needed in enumerate(ctx.needs_input_grad):
            if needed:
                inputs[position] = leaves[position] = inputs[position].detach().requires_grad_()
        with torch.enable_grad():
            output = differentiable(*inputs)
        # an input that the settings leave out of the sum (keys, where queries meet queries) has no gradient
        found = torch.autograd.grad(output, list(leaves.values()), gradient, allow_unused=True)
        gradients = dict(zip(leaves, found, strict=True))
        return tuple(gradients.get(position) for position in range(len(inputs)))

    operator.register_autograd(backward, setup_context=setup_context)


def _affinity_fake(image, dilations):
    batch, _, height, width = image.shape  # neighbours innermost, as every back-end stores them
    return image.new_empty(batch, height, width, 8 * len(dilations), dtype=torch.float32).permute(0, 3, 1, 2)


@custom_op(fake=_affinity_fake)
def pamr_affinity(image: Tensor, dilations: Sequence[int]) -> Tensor: ...


@custom_op(fake=lambda affinity, scores, iterations, dilations: torch.empty_like(scores))
def pamr_apply(affinity: Tensor, scores: Tensor, iterations: int, dilations: Sequence[int]) -> Tensor: ...


@custom_op(fake=lambda scores, height, width, *_: scores.new_empty(height, width, dtype=torch.int32))
def upsample_argmax(
    scores: Tensor,
    height: int,
    width: int,
    query_to_class: Tensor,
    num_classes: int,
    logit_scale: float,
    threshold: float,
    background: int,
    allowed: Tensor | None,
) -> Tensor: ...


@custom_op(fake=lambda scores, rows, columns, *_: scores.new_empty(len(rows), len(columns), dtype=torch.int32))
def separable_argmax(
    scores: Tensor,
    rows: Tensor,
    columns: Tensor,
    query_to_class: Tensor,
    num_classes: int,
    logit_scale: float,
    threshold: float,
    background: int,
    allowed: Tensor | None,
) -> Tensor: ...


def _topk_fake(scores, rows, columns, query_to_class, num_classes, logit_scale, k):
    shape = (k, len(rows), len(columns))
    return scores.new_empty(shape, dtype=torch.int32), scores.new_empty(shape, dtype=torch.float32)


@custom_op(fake=_topk_fake)
def separable_topk(
    scores: Tensor,
    rows: Tensor,
    columns: Tensor,
    query_to_class: Tensor,
    num_classes: int,
    logit_scale: float,
    k: int,
) -> tuple[Tensor, Tensor]: ...


@custom_op(fake=lambda labels, regions, num_classes, skip_ids: torch.empty_like(labels))
def region_vote(labels: Tensor, regions: Tensor, num_classes: int, skip_ids: Sequence[int]) -> Tensor: ...


def _pool_fake(features, regions):
    count = torch.library.get_ctx().new_dynamic_size()  # the number of regions depends on the data
    return regions.new_empty(count), features.new_empty(count, features.shape[1], dtype=torch.float32)


@custom_op(fake=_pool_fake)
def region_pool(features: Tensor, regions: Tensor) -> tuple[Tensor, Tensor]: ...


@custom_op(
    fake=lambda prediction, target, num_classes, ignore_index: prediction.new_empty(
        num_classes, num_classes, dtype=torch.int64
    )
)
def confusion_matrix(prediction: Tensor, target: Tensor, num_classes: int, ignore_index: int) -> Tensor: ...


@custom_op(fake=lambda features, values, *_: torch.empty_like(values))
def correlation_attention(
    features: Tensor,
    values: Tensor,
    scale: float,
    beta: float,
    threshold: float,
    mean_scope: str,
    region_ids: Tensor | None,
    unsegmented: Tensor | None,
    normaliser: str,
    empty: str,
) -> Tensor: ...


@custom_op(fake=lambda q, k, v, *_: torch.empty_like(v))
def self_self_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    terms: str,
    scale: float,
    combine: str,
    grid: Sequence[int],
    neighbour_std: float,
) -> Tensor: ...


@custom_op(fake=lambda q, k, v, *_: torch.empty_like(v))
def decomposed_attention(q: Tensor, k: Tensor, v: Tensor, rel_h: Tensor, rel_w: Tensor, scale: float) -> Tensor: ...


@custom_op(fake=lambda q, k, v, rel_h, rel_w, scale, valid, tokens, *_: torch.empty_like(tokens))
def guided_aggregation(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    rel_h: Tensor,
    rel_w: Tensor,
    scale: float,
    valid: Sequence[int],
    tokens: Tensor,
    cos_factor: float,
    cap: float,
    negative: float | None,
) -> Tensor: ...


_differentiate(correlation_attention, torch_attention.correlation_by_rows)
_differentiate(self_self_attention, torch_attention.self_self_attention)
_differentiate(decomposed_attention, torch_sam.augmented_attention)
