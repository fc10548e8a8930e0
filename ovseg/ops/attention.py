"""The public attention operators: check inputs, then run the best back-end.

Every function takes ``backend=``: for this call, a name or comma separated list of `ovseg.ops.dispatch.PREFERENCE`.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ovseg.ops import bindings
from ovseg.ops.checks import need, need_choice, need_equal_shape, need_float, need_integer, need_shape
from ovseg.ops.dispatch import use_backend


def correlation_attention(
    features: Tensor,
    values: Tensor,
    *,
    scale: float,
    beta: float = 0.0,
    threshold: float = 0.0,
    mean_scope: str = "sample",
    region_ids: Tensor | None = None,
    unsegmented: Tensor | None = None,
    normaliser: str = "softmax",
    empty: str = "self",
    backend: str | None = None,
) -> Tensor:
    """Attention by the correlation ``S_ij = f_i . f_j`` of guide features; all heads share the matrix.

    A pair (i, j) is kept where ``S_ij >= beta * mean(S) + threshold``. With ``region_ids`` it is kept where i and j are
    in the same region other than the unsegmented one, or where one of them is unsegmented and ``S_ij > beta *
    mean(S) + threshold``. Kept pairs weigh ``softmax_j(scale * S_ij)``, or for ``normaliser="sum"``
    ``scale * S_ij / (1e-6 + sum_j scale * S_ij)``; others weigh 0.

    ========================  ================================================================================
    ProxyCLIP, equations 5-7  scale=gamma (3), beta=1.2, mean_scope as the batch was formed
    CorrCLIP, scope (v1)      scale=4, beta=1, region_ids=merged ids
    CLIP-DINOiser, pooling    scale=1, threshold=0.2, normaliser="sum", values=features to pool
    SC-CLIP, aggregation      scale=1, threshold=0.4, normaliser="sum", values=tokens to pool
    SC-CLIP, last block       scale=3, beta=1
    ========================  ================================================================================

    Args:
        features: [B, N, d] floating point, unit length along d. Their type is that of the similarities: fp32 features
            with bf16 values keep the exact pairs and do the larger product fast.
        values: [B, N, dv] floating point; the value projections of all heads side by side.
        scale: softmax factor (ProxyCLIP's gamma; the inverse temperature).
        beta: how many means of S the limit lies at.
        threshold: absolute part of the limit.
        mean_scope: "sample": mean over the pairs of each sample; "batch": over those of all samples.
        region_ids: integer [B, N], arbitrary ids.
        unsegmented: integer [B], the id of each sample that means "in no region"; default: its smallest id.
        normaliser: "softmax" or "sum".
        empty: what a token that keeps no pair becomes: "self" (its own value) or "nan" (what the official softmax
            gives; with "sum" it is 0).

    Returns:
        [B, N, dv], type of the values. Differentiable in features and values; the keep rule counts as constant.
    """
    need_shape("features", features, "B N d")
    need_shape("values", values, "B N dv")
    need_float("features", features)
    need_float("values", values)
    need_equal_shape("values", values, (*features.shape[:2], values.shape[2]), "(tokens of the features)")
    need_choice("mean_scope", mean_scope, ("sample", "batch"))
    need_choice("normaliser", normaliser, ("softmax", "sum"))
    need_choice("empty", empty, ("self", "nan"))
    if region_ids is None:
        need(unsegmented is None, "unsegmented: given without region_ids")
    else:
        need_integer("region_ids", region_ids)
        need_equal_shape("region_ids", region_ids, features.shape[:2], "(tokens of the features)")
        unsegmented = region_ids.amin(1) if unsegmented is None else unsegmented
        need_equal_shape("unsegmented", unsegmented, features.shape[:1], "(one id per sample)")
    with use_backend(backend):
        return bindings.correlation_attention(
            features, values, scale, beta, threshold, mean_scope, region_ids, unsegmented, normaliser, empty
        )


def self_self_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    terms: Sequence[str] = ("qq",),
    scale: float | None = None,
    combine: str = "sum",
    neighbour_std: float = 0.0,
    grid: tuple[int, int] | None = None,
    backend: str | None = None,
) -> Tensor:
    """Attention whose queries and keys are the same tensor, applied to v.

    ``combine="sum"``: ``sum_t softmax(scale * t t^T + G) v`` (rows of the weights sum to the number of terms);
    ``combine="softmax"``: ``softmax(sum_t scale * t t^T + G) v``. With ``neighbour_std`` sigma > 0,
    ``G_ij = exp(-|cell_i - cell_j|^2 / (2 sigma^2))`` between patches of the grid and 0 for prefix tokens.

    =========================  ==================================================
    SCLIP, equation 6          terms=("qq", "kk")
    ClearCLIP                  terms=("qq",)
    NACLIP, equation 5         terms=("kk",), neighbour_std=5, grid=(h, w)
    CLIPtrase                  terms=("qq", "kk", "vv")
    =========================  ==================================================

    Args:
        q, k, v: floating point [B, heads, N, hd]; N = prefix tokens (such as CLS, first) + h * w patches.
        terms: any of "qq", "kk", "vv".
        scale: default hd ** -0.5.
        combine: "sum" or "softmax".
        neighbour_std: sigma of the neighbour bias in patches; 0: none.
        grid: (h, w) of the patches; required with a neighbour bias.

    Returns:
        [B, heads, N, hd], type of v. Differentiable.
    """
    need_shape("v", v, "B heads N hd")
    for name, tensor in (("q", q), ("k", k)):
        need_equal_shape(name, tensor, v.shape, "like v")
    for name, tensor in (("q", q), ("k", k), ("v", v)):
        need_float(name, tensor)
    need(bool(terms), "terms: expected at least one of 'qq', 'kk', 'vv'")
    for term in terms:
        need_choice("terms", term, ("qq", "kk", "vv"))
    need_choice("combine", combine, ("sum", "softmax"))
    need(neighbour_std >= 0, f"neighbour_std: must not be negative, got {neighbour_std}")
    if neighbour_std > 0:
        need(grid is not None, "grid: needed for the neighbour bias")
    if grid is not None:
        need(0 < grid[0] * grid[1] <= v.shape[2], f"grid: {grid} does not fit into {v.shape[2]} tokens")
    scale = v.shape[-1] ** -0.5 if scale is None else scale
    letters = "".join(term[0] for term in terms)
    with use_backend(backend):
        return bindings.self_self_attention(q, k, v, letters, scale, combine, list(grid or (0, 0)), neighbour_std)


def decomposed_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    rel_h: Tensor,
    rel_w: Tensor,
    *,
    scale: float | None = None,
    backend: str | None = None,
) -> Tensor:
    """SAM's attention: ``softmax(scale * q.k + q.rel_h[y, y'] + q.rel_w[x, x']) v`` for tokens on a grid [h, w].

    The positions (MViTv2, equation 4; SAM's image encoder) see the unscaled query. No [N, N] bias is stored.

    Args:
        q, k, v: floating point [B, heads, h * w, hd], tokens row by row.
        rel_h: [h, h, hd], embedding of key row y' as seen from query row y (`relative_positions`).
        rel_w: [w, w, hd], likewise for columns.
        scale: default hd ** -0.5.

    Returns:
        [B, heads, h * w, hd], type of v. Differentiable.
    """
    _need_positions(q, k, v, rel_h, rel_w, "B heads N hd")
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    with use_backend(backend):
        return bindings.decomposed_attention(q, k, v, rel_h, rel_w, scale)


def relative_positions(table: Tensor, size: int) -> Tensor:
    """SAM's ``rel_pos`` parameter [2 * size - 1, hd] -> [size, size, hd]: row [y, y'] is entry ``y - y' + size - 1``.

    A table of another length, from another input size, is resized linearly as SAM does.
    """
    need_shape("table", table, "L hd")
    length = 2 * size - 1
    if len(table) != length:
        resized = F.interpolate(table.float().T[None], size=length, mode="linear")[0].T
        table = resized.to(table.dtype)
    at = torch.arange(size, device=table.device)
    return table[at[:, None] - at + size - 1]


def guided_aggregation(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    rel_h: Tensor,
    rel_w: Tensor,
    tokens: Tensor,
    *,
    valid: tuple[int, int],
    cos_factor: float,
    keep_negative: bool = True,
    cap: float = 0.9,
    scale: float | None = None,
    backend: str | None = None,
) -> Tensor:
    """Trident's aggregation of image-wide tokens along SAM's last attention (section 3.3).

    With A_h the attention probabilities of head h of SAM's last block (over the whole padded square) and
    ``C_h = cos(v_i, v_j)``, both cropped to the valid grid: ``M = mean_h (A_h where C_h > t_i else 0)``, rows divided
    by their sum; the result is ``M @ tokens``. Row i's limit is ``t_i = cos_factor * mean over heads and j of C``, a
    negative one replaced by 0.6 unless ``keep_negative``, at most ``cap``.

    Args:
        q, k, v: floating point [heads, h * w, hd] of one image on SAM's grid (64 x 64), tokens row by row.
        rel_h, rel_w: as in `decomposed_attention`.
        tokens: [vh * vw, C] on the valid part of the grid.
        valid: (vh, vw): rows and columns of the grid that hold image rather than padding (top left).
        cos_factor: the paper's 1.2 (Cityscapes 3.0, VOC20 0.0).
        keep_negative: False for ADE20K and Cityscapes in the official settings.
        cap: upper bound of the limit; below 1 every token keeps at least itself.
        scale: default hd ** -0.5.

    Returns:
        [vh * vw, C], type of the tokens.
    """
    _need_positions(q, k, v, rel_h, rel_w, "heads N hd")
    need_shape("tokens", tokens, "N C")
    fits = 0 < valid[0] <= len(rel_h) and 0 < valid[1] <= len(rel_w)
    need(fits, f"valid: {valid} does not fit into the grid ({len(rel_h)}, {len(rel_w)})")
    need_equal_shape("tokens", tokens, (valid[0] * valid[1], tokens.shape[1]), "(cells of `valid`)")
    need(cap < 1, f"cap: must be below 1 so that every token keeps itself, got {cap}")
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    negative = None if keep_negative else 0.6
    with use_backend(backend):
        return bindings.guided_aggregation(q, k, v, rel_h, rel_w, scale, list(valid), tokens, cos_factor, cap, negative)


def _need_positions(q: Tensor, k: Tensor, v: Tensor, rel_h: Tensor, rel_w: Tensor, shape: str) -> None:
    need_shape("q", q, shape)
    for name, tensor in (("k", k), ("v", v)):
        need_equal_shape(name, tensor, q.shape, "like q")
    for name, tensor in (("q", q), ("k", k), ("v", v), ("rel_h", rel_h), ("rel_w", rel_w)):
        need_float(name, tensor)
    for name, table in (("rel_h", rel_h), ("rel_w", rel_w)):
        need_shape(name, table, "size size hd")
        need_equal_shape(name, table, (len(table), len(table), q.shape[-1]), "(square, head width of q)")
    cells = len(rel_h) * len(rel_w)
    need(q.shape[-2] == cells, f"q: {q.shape[-2]} tokens, but the position tables describe {cells}")
