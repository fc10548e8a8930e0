"""The part of a segmenter that is worth a graph of its own: windows and words in, scores out."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from ovseg.encoder import WindowBatch
from ovseg.errors import SetupError
from ovseg.queries import Queries
from ovseg.segmentors import OpenVocabSegmentor
from ovseg.stitches import ScoreStitch
from ovseg.weights.hybrid import StemPatches

MIN_CELLS = 2
"""Smallest windows of an exported graph, in patches per side."""
MIN_STEM_CELLS = 3
"""The same of a tower with a convolutional stem: its coarse map has half as many cells, and one alone is no axis."""


class ExportError(SetupError):
    """A model cannot be exported, or an exported file does not do what the model does."""


def smallest_cells(model: OpenVocabSegmentor) -> int:
    """Patches per side of the smallest window that a model's graph takes."""
    stem = any(isinstance(part, StemPatches) for part in model.backbone.modules())
    return MIN_STEM_CELLS if stem else MIN_CELLS


def not_exportable_reasons(model: nn.Module) -> list[str]:
    """Why a model has no graph of windows and words; empty if it has one."""
    if not isinstance(model, OpenVocabSegmentor):
        return [f"{type(model).__name__} is more than an image tower with an attention"]
    reasons = []
    if not isinstance(model.stitch, ScoreStitch):
        reasons.append(f"{type(model.stitch).__name__} joins features of windows, not scores")
    for name in ("guide", "regions", "views", "engine"):
        if getattr(model, name) is not None:
            reasons.append(f"its {name} ({type(getattr(model, name)).__name__}) is not part of the image tower")
    if model.attention.window_scope != "window":
        reasons.append(f"{type(model.attention).__name__} looks at all windows of a photo together")
    if model.attention.rescores:
        reasons.append(f"{type(model.attention).__name__} changes the cosines by what it keeps of a window")
    if model.windows.align_corners:
        reasons.append("its windows' scores are enlarged with align_corners")
    if model.attention.background:
        reasons.append(f"{type(model.attention).__name__} finds the background by itself")
    if model.backbone.precision != "fp32":
        reasons.append(f"its precision is {model.backbone.precision}; build it with precision='fp32'")
    return reasons


def refuse_without_graph(model: OpenVocabSegmentor) -> None:
    """Raise :class:`ExportError` with :func:`not_exportable_reasons`, if there are any."""
    if reasons := not_exportable_reasons(model):
        raise ExportError(f"this model cannot be exported: {'; '.join(reasons)}")


class WindowGraph(nn.Module):
    """CLIP's image tower with the method's attention, compared with words.

    Args:
        model: a segmentor for which :func:`not_exportable_reasons` gives none.

    Raises:
        ExportError: with the reasons otherwise.
    """

    def __init__(self, model: OpenVocabSegmentor) -> None:
        super().__init__()
        refuse_without_graph(model)
        self.backbone, self.attention = model.backbone, model.attention
        self._encoder = model.encoder

    def forward(self, images: Tensor, text: Tensor) -> Tensor:
        """Cosine of every patch with every word.

        Args:
            images: ``[B, 3, H, W]`` RGB 0..255 as floats; H and W multiples of the patch.
            text: ``[Q, D]`` unit vectors.

        Returns:
            ``[B, Q, H / patch, W / patch]`` float32, -1..1.
        """
        windows = (images - self.backbone.mean) / self.backbone.std
        return Queries(text, torch.arange(1), 1).cosines(self._encoder.encode(WindowBatch(windows)))


def export_program(model: OpenVocabSegmentor) -> ExportedProgram:
    """:class:`WindowGraph` through ``torch.export``, for any number of windows, words and patches.

    ``torch.export.save`` writes it; loading it needs ``import ovseg.ops``, whose operators are nodes of the graph.

    Raises:
        ExportError: see :class:`WindowGraph`.
    """
    graph = WindowGraph(model).eval()
    patch = model.backbone.patch_size
    device = model.backbone.mean.device
    images = torch.zeros(2, 3, 9 * patch, 11 * patch, device=device)
    text = torch.zeros(5, model.backbone.tower.embed_dim, device=device)
    least = smallest_cells(model)
    sides = {2: patch * Dim("rows", min=least), 3: patch * Dim("columns", min=least)}
    shapes = {"images": {0: Dim("windows"), **sides}, "text": {0: Dim("words")}}
    with torch.no_grad():
        return torch.export.export(graph, (images, text), dynamic_shapes=shapes, strict=False)
