"""Least time of each operator on an H100: the bytes that must move and the operations that must be done.

Every input is read and every output written once per pass that has to see it; caches that hold more would be faster.
Products count on the tensor cores in bf16, exponentials on the special function units, everything else on the fp32
units; the four times overlap, so the floor is the largest. Real kernels take longer; the floor says what is left to
gain.
"""

from __future__ import annotations

from dataclasses import dataclass

# H100 SXM5, dense (NVIDIA H100 data sheet).
BYTES_PER_SECOND = 3.35e12
TENSOR_PER_SECOND = 989e12
FP32_PER_SECOND = 67e12
# 132 multiprocessors with 16 results a clock each, at the clock of the figure above (128 fused operations a clock).
EXPONENTIALS_PER_SECOND = FP32_PER_SECOND / 16

HEADS, WIDTH = 12, 768
TOKENS = (1024, 4096, 16384)
HALF, FLOAT, INT = 2, 4, 4  # bytes


@dataclass(frozen=True)
class Work:
    """One call: bytes of device memory, multiplications and additions in products, other operations, exponentials."""

    operator: str
    case: str
    bytes: float
    tensor_ops: float
    fp32_ops: float
    exponentials: float = 0

    def times(self) -> dict[str, float]:
        """Microseconds that memory, tensor cores, fp32 units and special function units need at least."""
        return {
            "memory": self.bytes / BYTES_PER_SECOND * 1e6,
            "tensor": self.tensor_ops / TENSOR_PER_SECOND * 1e6,
            "fp32": self.fp32_ops / FP32_PER_SECOND * 1e6,
            "exp": self.exponentials / EXPONENTIALS_PER_SECOND * 1e6,
        }

    def floor(self) -> float:
        """Microseconds."""
        return max(self.times().values())

    def cells(self) -> dict[str, str]:
        """Columns of ``docs/cuda_roofline.csv``."""
        times = self.times()
        return {
            "operator": self.operator,
            "case": self.case,
            "megabytes": f"{self.bytes / 1e6:.3f}",
            "tensor_gflop": f"{self.tensor_ops / 1e9:.3f}",
            "fp32_gflop": f"{self.fp32_ops / 1e9:.3f}",
            "gexp": f"{self.exponentials / 1e9:.3f}",
            **{f"{name}_us": f"{time:.2f}" for name, time in times.items()},
            "floor_us": f"{self.floor():.2f}",
            "bound_by": max(times, key=times.get),
        }


def attention(tokens: int) -> list[Work]:
    """The attention operators with bf16 tensors, one image.

    Per pair of tokens and matrix 5 operations (scale, compare or add a bias, running maximum, subtraction and sum) and
    one exponential.
    """
    pairs, tensor = tokens**2, tokens * WIDTH * HALF
    product = 2 * pairs * WIDTH  # of all heads together, or of vectors of the full width
    side = round(tokens**0.5)
    positions = 2 * tokens * 2 * side * WIDTH
    case = f"N = {tokens}, d = {WIDTH}, {HEADS} heads"
    return [
        Work("correlation_attention", case, 3 * tensor, 2 * product, 5 * pairs, pairs),
        Work(
            "self_self_attention",
            f"{case}, q-q + k-k",
            4 * tensor,
            4 * product,
            2 * 5 * HEADS * pairs,
            2 * HEADS * pairs,
        ),
        Work("decomposed_attention", case, 4 * tensor, 2 * product + positions, 7 * HEADS * pairs, HEADS * pairs),
        # Rows are cut by head before heads are summed: the softmax denominators need a pass of their own.
        Work("guided_aggregation", case, 5 * tensor, 4 * product + positions, 12 * HEADS * pairs, 2 * HEADS * pairs),
    ]


def upsampling(classes: int, grid: tuple[int, int], size: tuple[int, int]) -> list[Work]:
    """All classes at all pixels, nothing pruned: two taps per axis, rows first; fp32 scores, int32 labels.

    A threshold and confidences need the softmax over the classes: an exponential per class and pixel.
    """
    pixels = size[0] * size[1]
    taps = classes * (3 * size[0] * grid[1] + 3 * pixels)
    scores = classes * grid[0] * grid[1] * FLOAT
    case = f"{classes} classes, {grid[0]} x {grid[1]} to {size[0]} x {size[1]}"
    return [
        Work("upsample_argmax", case, scores + pixels * INT, 0, taps + classes * pixels),
        Work(
            "upsample_argmax",
            f"{case}, threshold",
            scores + pixels * INT,
            0,
            taps + 4 * classes * pixels,
            classes * pixels,
        ),
        Work(
            "separable_topk",
            f"{case}, k = 5",
            scores + 5 * pixels * (INT + FLOAT),
            0,
            taps + 4 * classes * pixels,
            classes * pixels,
        ),
    ]


def pamr(queries: int, size: tuple[int, int], iterations: int) -> list[Work]:
    """Dilations 8 and 16: 16 neighbours; fp32. Every iteration reads and writes all scores."""
    pixels, neighbours = size[0] * size[1], 16
    affinity = pixels * neighbours * FLOAT
    case = f"{size[0]} x {size[1]}"
    moved = iterations * (affinity + 2 * queries * pixels * FLOAT)
    return [
        Work(
            "pamr_affinity",
            case,
            3 * pixels * FLOAT + affinity,
            0,
            pixels * neighbours * (3 * 6 + 4),
            pixels * neighbours,
        ),
        Work(
            "pamr_apply",
            f"{case}, {queries} queries, {iterations} iterations",
            moved,
            0,
            iterations * 2 * neighbours * queries * pixels,
        ),
    ]


def counting(size: tuple[int, int], tokens: int) -> list[Work]:
    """int32 maps; a vote reads labels and regions to count and regions again to write."""
    pixels = size[0] * size[1]
    case = f"{size[0]} x {size[1]}"
    return [
        Work("region_vote", case, 4 * pixels * INT, 0, 0),
        Work("confusion_matrix", case, 2 * pixels * INT, 0, 0),
        Work("region_pool", f"N = {tokens}, d = {WIDTH}", tokens * WIDTH * HALF, 0, tokens * WIDTH),
    ]


def works() -> list[Work]:
    """The calls that ``docs/cuda_roofline.csv`` lists."""
    listed = [work for tokens in TOKENS for work in attention(tokens)]
    listed.sort(key=lambda work: work.operator)
    for classes in (21, 847):
        listed += upsampling(classes, (64, 128), (1024, 2048))
    return listed + pamr(56, (400, 600), 10) + counting((1024, 2048), 4096)
