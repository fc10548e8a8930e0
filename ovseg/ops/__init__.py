"""Fused operators of ovseg, each exact to a plain definition (`ovseg.ops.reference`). See ``docs/operators.md``."""

from ovseg.ops import (  # noqa: F401  (they register themselves)
    cuda,
    torch_argmax,
    torch_attention,
    torch_pamr,
    torch_regions,
    torch_sam,
)
from ovseg.ops.attention import (
    correlation_attention,
    decomposed_attention,
    guided_aggregation,
    relative_positions,
    self_self_attention,
)
from ovseg.ops.dispatch import (
    Backend,
    UnsupportedCallError,
    backend_report,
    not_supported_reasons,
    operators,
    register,
    use_backend,
)
from ovseg.ops.functional import (
    RegionMeans,
    confusion_matrix,
    pamr,
    pamr_affinity,
    pamr_apply,
    region_pool,
    region_vote,
    separable_argmax,
    separable_topk,
    upsample_argmax,
    upsample_topk,
)
from ovseg.ops.solvers import conjugate_gradients
from ovseg.ops.torch_argmax import bilinear_matrix

__all__ = [
    "Backend",
    "RegionMeans",
    "UnsupportedCallError",
    "backend_report",
    "bilinear_matrix",
    "confusion_matrix",
    "conjugate_gradients",
    "correlation_attention",
    "decomposed_attention",
    "guided_aggregation",
    "not_supported_reasons",
    "operators",
    "pamr",
    "pamr_affinity",
    "pamr_apply",
    "region_pool",
    "region_vote",
    "register",
    "relative_positions",
    "self_self_attention",
    "separable_argmax",
    "separable_topk",
    "upsample_argmax",
    "upsample_topk",
    "use_backend",
]
