"""Segmenters as graphs: torch.export programs and ONNX files whose classes stay open.

The graph is CLIP's image tower with the method's attention and the comparison with words; the words' embeddings are an
*input*, so that classes can be changed after the export. Cutting photos into windows, stitching and the head stay
outside: they are a few lines without weights (``demo/onnx_numpy.py``, ``demo/onnx_web``).
"""

from ovseg.export.engine import OnnxEngine
from ovseg.export.graph import ExportError, WindowGraph, export_program, not_exportable_reasons
from ovseg.export.onnx import Check, check_onnx, quantise_onnx, read_settings, write_onnx

__all__ = [
    "Check",
    "ExportError",
    "OnnxEngine",
    "WindowGraph",
    "check_onnx",
    "export_program",
    "not_exportable_reasons",
    "quantise_onnx",
    "read_settings",
    "write_onnx",
]
