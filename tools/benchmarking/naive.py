"""Operators as the methods' official code computes them, beside ovseg's: two functions that must agree.

``CASES`` names them; ``tools/benchmark.py --ops`` measures any, ``--bars`` those that the project promised.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from ovseg import ops
from ovseg.backbones import SamBackbone, kernels
from ovseg.backbones.sam_decoder import ImageDecoder
from ovseg.ops import reference
from tools.benchmarking.standins import standin


@dataclass
class Case:
    """Two functions of no arguments that must agree.

    Attributes:
        title: what is computed, with its sizes.
        naive: as the official code does it.
        fused: as ovseg does it.
        measure: how far the results are apart: :func:`relative_error`, :func:`differing_labels`
            or :func:`wrong_labels`.
    """

    title: str
    naive: Callable[[], Tensor]
    fused: Callable[[], Tensor]
    measure: Callable[[Tensor, Tensor], float]

    def difference(self, naive: Tensor, fused: Tensor) -> str:
        """The difference in words."""
        if naive.is_floating_point():
            return f"{self.measure(naive, fused):.1e}"
        return f"{int((naive != fused).sum())} of {naive.numel()} labels differ, {self.measure(naive, fused):.0f} wrong"


def relative_error(naive: Tensor, fused: Tensor) -> float:
    """Norm of the difference over the norm of ``naive``."""
    return float((naive.float() - fused.float()).norm() / naive.float().norm())


def differing_labels(naive: Tensor, fused: Tensor) -> float:
    """Number of labels that are not equal."""
    return float((naive != fused).sum())


def wrong_labels(scores: Tensor, naive: Tensor, fused: Tensor) -> float:
    """Pixels where the two differ and float64 arithmetic says that ``naive`` is right.

    Where two classes agree to within rounding, fp32 interpolation may pick either; exact arithmetic decides who erred.

    Args:
        scores: ``[Q, h, w]`` that were upsampled.
        naive, fused: labels ``[H, W]``.
    """
    eyes = (torch.eye(n, dtype=torch.float64)[None] for n in scores.shape[1:])
    rows, columns = (F.interpolate(e, size=m, mode="linear")[0].T for e, m in zip(eyes, naive.shape, strict=True))
    wrong = 0
    for y, x in (naive != fused).nonzero().tolist():
        exact = torch.einsum("i,qij,j->q", rows[y], scores.double(), columns[x])
        wrong += bool(exact[int(fused[y, x])] < exact[int(naive[y, x])])
    return float(wrong)


def pamr(full: bool) -> Case:
    """NACLIP on VOC21: 56 queries at the photo's size."""
    image, scores = torch.rand(1, 3, 400, 600), torch.rand(1, 56, 400, 600)
    iterations = 10 if full else 2

    def naive() -> Tensor:
        affinity = reference.pamr_affinity(image, (8, 16))
        return reference.pamr_apply(affinity, scores, iterations, (8, 16))

    title = f"PAMR, 56 queries, 400 x 600, {iterations} iterations"
    return Case(title, naive, lambda: ops.pamr(image, scores, iterations), relative_error)


def argmax(classes: int, threshold: float, full: bool) -> Case:
    """Smooth random scores at the contrast of CLIP's cosines, upsampled 16 times."""
    grid = (64, 128) if full or classes < 100 else (32, 64)
    coarse = torch.randn(1, classes, grid[0] // 8, grid[1] // 8)
    scores = F.interpolate(coarse, size=grid, mode="bicubic")[0] + 0.1 * torch.randn(classes, *grid)
    scores = 0.2 + 0.03 * scores
    size = (16 * grid[0], 16 * grid[1])

    def naive() -> Tensor:
        # scaled before the upsampling, which saves this side a third of its memory
        maps = F.interpolate(scores[None] * 40, size=size, mode="bilinear")[0]
        best, labels = maps.softmax(0).max(0)
        return labels.masked_fill(best < threshold, 0) if threshold else labels

    def fused() -> Tensor:
        return ops.upsample_argmax(scores, size, logit_scale=40.0, threshold=threshold, background=0)

    note = f", threshold {threshold}" if threshold else ""
    title = f"upsample + argmax, {classes} classes{note}, {grid[0]} x {grid[1]} to {size[0]} x {size[1]}"
    return Case(title, naive, fused, differing_labels if threshold else partial(wrong_labels, scores))


def correlation(dtype: torch.dtype, full: bool) -> Case:
    """ProxyCLIP: 12 heads that share one masked matrix. Tokens of 20 things, alike within a thing.

    The naive side is fp32; ovseg's gets its inputs in ``dtype``.
    """
    count, heads = (4096, 12) if full else (2048, 12)
    things = torch.randn(20, 768)[torch.randint(20, (1, count))]
    features = F.normalize(things + 0.5 * torch.randn(768) + 0.8 * torch.randn(1, count, 768), dim=-1)
    values = torch.randn(1, count, 768)

    def naive() -> Tensor:
        similarity = features @ features.mT
        logits = 3.0 * (similarity - 1.2 * similarity.mean())
        logits = logits.masked_fill(logits < 0, -torch.inf)[:, None].repeat(1, heads, 1, 1)
        parts = values.unflatten(-1, (heads, -1)).transpose(1, 2)
        return (logits.softmax(-1) @ parts).transpose(1, 2).flatten(2)

    ours = (features.to(dtype), values.to(dtype))

    def fused() -> Tensor:
        return ops.correlation_attention(*ours, scale=3.0, beta=1.2)

    name = str(dtype).removeprefix("torch.")
    return Case(f"correlation attention, N = {count}, 12 heads, {name}", naive, fused, relative_error)


def self_self(neighbour: bool, full: bool) -> Case:
    """NACLIP on a whole image (k-k with a neighbourhood), SCLIP on windows (q-q + k-k)."""
    grid, batch = ((21, 31), 1) if neighbour else ((14, 14), 8)
    q, k, v = (torch.randn(batch, 12, 1 + grid[0] * grid[1], 64) for _ in range(3))
    if neighbour:
        title, call = "NACLIP, 21 x 31 patches", dict(terms=("kk",), neighbour_std=5.0, grid=grid)
    else:
        title, call = "SCLIP, 8 windows of 14 x 14", dict(terms=("qq", "kk"))
    return Case(
        f"self-self attention, {title}",
        lambda: ops.self_self_attention(q, k, v, backend="reference", **call),
        lambda: ops.self_self_attention(q, k, v, **call),
        relative_error,
    )


def sam_attention(windows: bool, dtype: torch.dtype, full: bool) -> Case:
    """SAM ViT-B at 1024: global blocks 64 x 64, others in 25 windows of 14 x 14."""
    size, batch, heads = (14, 25, 12) if windows else (64, 1, 12 if full else 3)
    q, k, v = (torch.randn(batch, heads, size * size, 64).to(dtype) for _ in range(3))
    tables = [(0.1 * torch.randn(size, size, 64)).to(dtype) for _ in range(2)]

    def naive() -> Tensor:
        logits = (q * 0.125) @ k.mT
        cells = q.unflatten(2, (size, size))
        of_row = torch.einsum("bnhwc,hkc->bnhwk", cells, tables[0])
        of_column = torch.einsum("bnhwc,wkc->bnhwk", cells, tables[1])
        logits = logits.unflatten(2, (size, size)).unflatten(4, (size, size))
        logits = (logits + of_row[..., None] + of_column[..., None, :]).flatten(4).flatten(2, 3)
        return logits.softmax(-1) @ v

    name = str(dtype).removeprefix("torch.")
    where = f"25 windows of 14 x 14, {heads} heads" if windows else f"64 x 64, {heads} heads"
    title = f"SAM attention, {where}, {name}"
    return Case(title, naive, lambda: ops.decomposed_attention(q, k, v, *tables), relative_error)


def guided(full: bool) -> Case:
    """Trident: SAM's 64 x 64 grid of a photo of 3 : 2."""
    heads = 12 if full else 3
    q, k, v = (torch.randn(heads, 4096, 64) for _ in range(3))
    v = v + 0.7 * torch.randn(64)
    tables = [0.1 * torch.randn(64, 64, 64) for _ in range(2)]
    tokens = torch.randn(43 * 64, 768)
    call = dict(valid=(43, 64), cos_factor=1.2)
    return Case(
        f"SAM-guided aggregation, 64 x 64, {heads} heads",
        lambda: ops.guided_aggregation(q, k, v, *tables, tokens, backend="reference", **call),
        lambda: ops.guided_aggregation(q, k, v, *tables, tokens, **call),
        relative_error,
    )


def packed_linear(dtype: torch.dtype, full: bool) -> Case:
    """The first layer of a ViT-B's feed-forward on 8 windows of 14 x 14: torch's own against packed weights."""
    x, weight, bias = torch.randn(8, 197, 768).to(dtype), torch.randn(3072, 768).to(dtype), torch.randn(3072).to(dtype)
    name = str(dtype).removeprefix("torch.")
    return Case(
        f"linear layer, 1576 x 768 to 3072, {name}",
        lambda: F.linear(x, weight, bias),
        lambda: kernels.linear(x, weight, bias),
        relative_error,
    )


def encoder_attention(full: bool) -> Case:
    """One block of DINO ViT-B/8 at 336 px in bf16: torch's fused attention against rows of one head at a time."""
    q, k, v = (torch.randn(1, 12, 1765, 64).bfloat16() for _ in range(3))
    return Case(
        "encoder attention, N = 1765, 12 heads, bfloat16",
        lambda: F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2),
        lambda: kernels.attention(q, k, v, 0.125),
        relative_error,
    )


def sam_encoder(precision: str, full: bool) -> Case:
    """SAM ViT-B's image encoder on a photo-like square of 1024 px, stand-in weights: segment_anything's own in fp32."""
    backbone = SamBackbone("sam/vit_b", checkpoint=standin("sam/vit_b"), precision=precision)
    pixels = F.interpolate(torch.randn(1, 3, 64, 64), size=(1024, 1024), mode="bicubic")
    title = f"SAM ViT-B encoder at 1024, {precision} against segment_anything in fp32"
    return Case(
        title,
        lambda: backbone.sam.image_encoder(pixels),
        lambda: backbone.encode(pixels)[0],
        relative_error,
    )


def sam_decoder(full: bool) -> Case:
    """SAM's mask decoder, stand-in weights: points of a grid on one image, three masks each, as for automatic masks."""
    sam = SamBackbone("sam/vit_b", checkpoint=standin("sam/vit_b")).sam
    embedding, count = torch.randn(1, 256, 64, 64), 64 if full else 4
    points = torch.rand(count, 1, 2) * sam.image_encoder.img_size
    sparse, dense = sam.prompt_encoder((points, torch.ones(count, 1)), None, None)

    def naive() -> Tensor:
        return sam.mask_decoder(embedding, sam.prompt_encoder.get_dense_pe(), sparse, dense, multimask_output=True)[0]

    title = f"SAM mask decoder, {count} points, three masks each, fp32"
    return Case(title, naive, lambda: ImageDecoder(sam, embedding)(sparse, dense, multimask=True)[0], relative_error)


CASES: dict[str, Callable[[bool], Case]] = {
    "pamr": pamr,
    "argmax21": lambda full: argmax(21, 0.0, full),
    "argmax21thr": lambda full: argmax(21, 0.2, full),
    "argmax847": lambda full: argmax(847, 0.0, full),
    "correlation": lambda full: correlation(torch.float32, full),
    "correlation-bf16": lambda full: correlation(torch.bfloat16, full),
    "self-naclip": lambda full: self_self(True, full),
    "self-sclip": lambda full: self_self(False, full),
    "sam-global": lambda full: sam_attention(False, torch.float32, full),
    "sam-global-bf16": lambda full: sam_attention(False, torch.bfloat16, full),
    "sam-windows": lambda full: sam_attention(True, torch.float32, full),
    "sam-encoder": lambda full: sam_encoder("bf16", full),
    "sam-decoder": sam_decoder,
    "guided": guided,
    "linear": lambda full: packed_linear(torch.float32, full),
    "linear-bf16": lambda full: packed_linear(torch.bfloat16, full),
    "encoder-attention": encoder_attention,
}
"""Cases by name; the argument says whether the sizes are those of the real methods (``argmax847``: 14 GB)."""


@torch.inference_mode(False)
@torch.no_grad()
def build_case(name: str, full: bool) -> Case:
    """A case with its inputs, the same numbers in every process.

    Raises:
        ValueError: for an unknown name, listing those there are.
    """
    if name not in CASES:
        raise ValueError(f"no case {name!r}; choose from {', '.join(CASES)}")
    torch.manual_seed(0)
    return CASES[name](full)


def warm_libraries() -> None:
    """Small calls: libraries load and allocate at their first use, which is nobody's memory."""
    for dtype in (torch.float32, torch.bfloat16):
        small = torch.rand(1, 2, 256, 64).to(dtype)
        ops.self_self_attention(small, small, small)
        ops.correlation_attention(small[0], small[0], scale=1.0)
        F.linear(small, torch.rand(64, 64).to(dtype))
        F.interpolate(small.float(), size=(512, 512), mode="bilinear").softmax(1).argmax(1)
