"""The public operators on score maps, regions and labels: check inputs, then run the best back-end.

Every function takes ``backend=``: for this call, a name or comma separated list of `ovseg.ops.dispatch.PREFERENCE`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ovseg.ops import bindings
from ovseg.ops.checks import need, need_equal_shape, need_float, need_range, need_shape, widened
from ovseg.ops.dispatch import use_backend
from ovseg.ops.torch_argmax import bilinear_matrix

# PAMR ----------------------------------------------------------------------------------------------------------------


def pamr_affinity(image: Tensor, dilations: Sequence[int] = (8, 16), *, backend: str | None = None) -> Tensor:
    """How alike each pixel and its neighbours are (PAMR, Araslanov & Roth 2020, section 4.3; as NACLIP uses it).

    For neighbour n of pixel 0: ``a_n = mean over channels of -|I_n - I_0| / (1e-8 + 0.1 s)``, with s the unbiased
    standard deviation, per channel, over all neighbours and the centre (once per dilation); then softmax over n.
    Borders are replicated.

    Args:
        image: [B, C, H, W] floating point guide, any units (the distance is scale free).
        dilations: distances of the 8 neighbours; K = 8 * len(dilations).

    Returns:
        float32 [B, K, H, W], non-negative, sums to 1 over K.
    """
    need_shape("image", image, "B C H W")
    need_float("image", image)
    with use_backend(backend):
        return bindings.pamr_affinity(image, _dilations(dilations))


def pamr_apply(
    affinity: Tensor,
    scores: Tensor,
    iterations: int = 10,
    dilations: Sequence[int] = (8, 16),
    *,
    backend: str | None = None,
) -> Tensor:
    """Repeat ``iterations`` times: scores <- sum over neighbours of affinity * neighbour's scores.

    Queries do not interact: any chunk of them may be refined on its own with the same affinity.

    Args:
        affinity: [B, K, H, W] from `pamr_affinity` with the same dilations.
        scores: [B, Q, H, W] floating point; iterated in fp32.

    Returns:
        refined scores, shape and type of ``scores``.
    """
    need_shape("affinity", affinity, "B K H W")
    need_shape("scores", scores, "B Q H W")
    dilations = _dilations(dilations)
    expected = (scores.shape[0], 8 * len(dilations), *scores.shape[2:])
    why = "for these scores and dilations (compute it from an image of the scores' size)"
    need_equal_shape("affinity", affinity, expected, why)
    need(iterations >= 0, f"iterations: must not be negative, got {iterations}")
    with use_backend(backend):
        return bindings.pamr_apply(affinity, scores, iterations, dilations)


def pamr(
    image: Tensor,
    scores: Tensor,
    iterations: int = 10,
    dilations: Sequence[int] = (8, 16),
    *,
    backend: str | None = None,
) -> Tensor:
    """Pixel-adaptive mask refinement: `pamr_affinity` of the image, then `pamr_apply` on the scores."""
    affinity = pamr_affinity(image, dilations, backend=backend)
    return pamr_apply(affinity, scores, iterations, dilations, backend=backend)


def _dilations(dilations: Sequence[int]) -> list[int]:
    values = [int(d) for d in dilations]
    need(bool(values) and min(values) > 0, f"dilations: expected positive integers, got {dilations}")
    return values


# Upsample + argmax ---------------------------------------------------------------------------------------------------


def upsample_argmax(
    scores: Tensor,
    size: tuple[int, int],
    query_to_class: Tensor | None = None,
    num_classes: int | None = None,
    logit_scale: float = 1.0,
    threshold: float = 0.0,
    background: int | None = None,
    *,
    allowed: Tensor | None = None,
    dtype: torch.dtype = torch.int32,
    backend: str | None = None,
) -> Tensor:
    """Labels of bilinearly upsampled scores (align_corners=False) without ever holding [Q, H, W].

    The same labels as interpolate, softmax over all queries of ``logit_scale * scores``, maximum over the queries of
    a class, argmax over classes (ties: the lowest class), and ``background`` where the winner's probability is below
    ``threshold``. Pixels whose two best classes agree to within fp32 rounding may fall to either.

    Args:
        scores: [Q, h, w] floating point, finite (cosines or logits).
        size: output (H, W) in pixels.
        query_to_class: int64 [Q], class of each query; default: one query per class.
        num_classes: number of classes; default: largest class + 1.
        logit_scale: positive softmax temperature factor; matters only with a threshold.
        threshold: probability in [0, 1); 0 switches it off.
        background: label of pixels below the threshold; required with one.
        allowed: bool [num_classes]; classes that are False cannot win but stay in the softmax (SCLIP's area rule).
        dtype: integer type of the labels, for example torch.uint16.

    Returns:
        labels [H, W].
    """
    need_shape("scores", scores, "Q h w")
    query_to_class, num_classes = _queries(scores, query_to_class, num_classes)
    background = _decision(logit_scale, threshold, background)
    _allowed(allowed, query_to_class, num_classes)
    height, width = size
    need(height > 0 and width > 0, f"size: expected a positive (H, W), got {size}")
    with use_backend(backend):
        labels = bindings.upsample_argmax(
            scores, height, width, query_to_class, num_classes, logit_scale, threshold, background, allowed
        )
    return labels.to(dtype)


def separable_argmax(
    scores: Tensor,
    rows: Tensor,
    columns: Tensor,
    query_to_class: Tensor | None = None,
    num_classes: int | None = None,
    logit_scale: float = 1.0,
    threshold: float = 0.0,
    background: int | None = None,
    *,
    allowed: Tensor | None = None,
    dtype: torch.dtype = torch.int32,
    backend: str | None = None,
) -> Tensor:
    """`upsample_argmax` for any separable map ``rows @ scores[q] @ columns.T``, such as averaged windows.

    Upsampling windows, averaging them and resizing to the image are linear and act on rows and columns separately,
    so a whole stitched map is two small matrices around the window scores.

    Args:
        scores: [Q, gy, gx] floating point, finite.
        rows: [H, gy] and ``columns``: [W, gx]: non-negative, every row sums to 1; few entries of a row are non-zero
            (cost grows with how many scores a patch of 16 x 16 pixels touches).
        query_to_class, num_classes, logit_scale, threshold, background, allowed, dtype: see `upsample_argmax`.

    Returns:
        labels [H, W].
    """
    need_shape("scores", scores, "Q gy gx")
    query_to_class, num_classes = _queries(scores, query_to_class, num_classes)
    background = _decision(logit_scale, threshold, background)
    _allowed(allowed, query_to_class, num_classes)
    _weights("rows", rows, scores.shape[1])
    _weights("columns", columns, scores.shape[2])
    with use_backend(backend):
        labels = bindings.separable_argmax(
            scores, rows, columns, query_to_class, num_classes, logit_scale, threshold, background, allowed
        )
    return labels.to(dtype)


def separable_topk(
    scores: Tensor,
    rows: Tensor,
    columns: Tensor,
    query_to_class: Tensor | None = None,
    num_classes: int | None = None,
    logit_scale: float = 1.0,
    k: int = 1,
    *,
    backend: str | None = None,
) -> tuple[Tensor, Tensor]:
    """The k most probable classes per pixel and their softmax probabilities (confidence), in row blocks.

    Arguments as in `separable_argmax`. Classes without a query have probability 0.

    Returns:
        labels int32 [k, H, W] and probabilities float32 [k, H, W], best first.
    """
    need_shape("scores", scores, "Q gy gx")
    query_to_class, num_classes = _queries(scores, query_to_class, num_classes)
    _decision(logit_scale, 0.0, None)
    _weights("rows", rows, scores.shape[1])
    _weights("columns", columns, scores.shape[2])
    need(0 < k <= num_classes, f"k: expected 1..{num_classes} (the number of classes), got {k}")
    with use_backend(backend):
        return bindings.separable_topk(scores, rows, columns, query_to_class, num_classes, logit_scale, k)


def upsample_topk(scores: Tensor, size: tuple[int, int], *args: object, **kwargs: object) -> tuple[Tensor, Tensor]:
    """`separable_topk` for plain bilinear upsampling to ``size`` (H, W); further arguments as there."""
    need_shape("scores", scores, "Q h w")
    rows = bilinear_matrix(scores.shape[1], size[0]).to(scores.device)
    columns = bilinear_matrix(scores.shape[2], size[1]).to(scores.device)
    return separable_topk(scores, rows, columns, *args, **kwargs)


def _queries(scores: Tensor, query_to_class: Tensor | None, num_classes: int | None) -> tuple[Tensor, int]:
    if query_to_class is None:
        query_to_class = torch.arange(len(scores), device=scores.device)
    need(
        query_to_class.shape == (len(scores),) and query_to_class.dtype == torch.int64,
        f"query_to_class: expected int64 [{len(scores)}], got {query_to_class.dtype} {tuple(query_to_class.shape)}",
    )
    query_to_class = query_to_class.to(scores.device)
    low, high = int(query_to_class.min()), int(query_to_class.max())
    num_classes = high + 1 if num_classes is None else num_classes
    need(low >= 0 and high < num_classes, f"query_to_class: values {low}..{high} outside 0..{num_classes - 1}")
    return query_to_class, num_classes


def _decision(logit_scale: float, threshold: float, background: int | None) -> int:
    need(logit_scale > 0, f"logit_scale: must be positive, got {logit_scale}")
    need(0 <= threshold < 1, f"threshold: expected a probability in [0, 1), got {threshold}")
    need(threshold == 0 or background is not None, "background: needed to know what pixels below `threshold` become")
    return -1 if background is None else background


def _allowed(allowed: Tensor | None, query_to_class: Tensor, num_classes: int) -> None:
    if allowed is None:
        return
    need(
        allowed.shape == (num_classes,) and allowed.dtype == torch.bool,
        f"allowed: expected bool [{num_classes}], got {allowed.dtype} {tuple(allowed.shape)}",
    )
    need(bool(allowed[query_to_class].any()), "allowed: no class that has a query is allowed; nothing can win")


def _weights(name: str, matrix: Tensor, cells: int) -> None:
    need_shape(name, matrix, "pixels cells")
    need(
        matrix.shape[1] == cells,
        f"{name}: has {matrix.shape[1]} columns but the scores have {cells} cells along this axis",
    )
    deviation = float((matrix.float().sum(1) - 1).abs().max())
    need(
        bool((matrix >= 0).all()) and deviation < 1e-5,
        f"{name}: weights must be non-negative with rows that sum to 1 (largest deviation {deviation:.3g})",
    )


# Regions and counts --------------------------------------------------------------------------------------------------


def region_vote(
    labels: Tensor, regions: Tensor, num_classes: int, skip_ids: Sequence[int] = (), *, backend: str | None = None
) -> Tensor:
    """All pixels of a region take its most frequent label, ties: the smallest (CorrCLIP's map correction).

    Args:
        labels: integer [H, W], values 0..num_classes-1.
        regions: integer [H, W], arbitrary ids.
        skip_ids: ids whose pixels keep their labels (for example "unsegmented").

    Returns:
        labels, same shape and type.
    """
    need_equal_shape("regions", regions, labels.shape, "like the labels")
    skip = [int(i) for i in skip_ids]
    wide_labels, wide_regions = widened("labels", labels), widened("regions", regions, *skip)
    need_range("labels", wide_labels, num_classes)
    with use_backend(backend):
        return bindings.region_vote(wide_labels, wide_regions, num_classes, skip).to(labels.dtype)


class RegionMeans(NamedTuple):
    """Mean features of regions: ``ids`` [R] ascending, of the regions' type, ``means`` float32 [R, d]."""

    ids: Tensor
    means: Tensor


def region_pool(features: Tensor, regions: Tensor, *, backend: str | None = None) -> RegionMeans:
    """Mean feature of every region.

    Args:
        features: floating point [N, d] with regions [N], or [d, h, w] with regions [h, w].
        regions: integer ids, arbitrary.

    Returns:
        `RegionMeans`; the mean is accumulated in fp32 and not normalised.
    """
    if features.dim() == 3:
        need_equal_shape("regions", regions, features.shape[1:], "like the features")
        features, regions = features.flatten(1).t(), regions.flatten()
    need_shape("features", features, "N d")
    need_equal_shape("regions", regions, features.shape[:1], "like the features")
    wide = widened("regions", regions)
    with use_backend(backend):
        ids, means = bindings.region_pool(features, wide)
    return RegionMeans(ids.to(regions.dtype), means)


def confusion_matrix(
    prediction: Tensor, target: Tensor, num_classes: int, ignore_index: int = 255, *, backend: str | None = None
) -> Tensor:
    """int64 [C, C]: pixels of class i (row, ground truth) predicted as j (column); ``ignore_index`` is left out.

    Args:
        prediction: integer, values 0..C-1.
        target: integer, same shape, values 0..C-1 or ``ignore_index``.
    """
    need_equal_shape("prediction", prediction, target.shape, "like the target")
    prediction, target = widened("prediction", prediction), widened("target", target, ignore_index)
    valid = target != ignore_index
    need_range("prediction", prediction[valid], num_classes)
    need_range("target", target[valid], num_classes)
    with use_backend(backend):
        return bindings.confusion_matrix(prediction, target, num_classes, ignore_index)
