"""ONNX files of :class:`ovseg.export.WindowGraph`, their settings, their check and their int8 form."""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ovseg.datasets.files import atomic_path
from ovseg.export.graph import ExportError, WindowGraph, export_program, refuse_without_graph, smallest_cells
from ovseg.ops import reference
from ovseg.segmentors import OpenVocabSegmentor

OPSET = 20
SETTINGS = "ovseg"
"""Key of the file's metadata that holds :func:`settings_of` as JSON."""
TOLERANCE = 1e-4
"""Largest difference of a cosine between torch and onnxruntime in fp32."""
_SHAPES = ((1, 1.0, 1.0, 2), (2, 0.5, 1.3, 1), (1, 1.7, 0.6, 847))


@dataclass(frozen=True)
class Check:
    """How far a file is from the model it was made of.

    Attributes:
        difference: largest difference of a cosine.
        labels: share (0..1) of patches with the same best word.
    """

    difference: float
    labels: float


def write_onnx(model: OpenVocabSegmentor, path: str | Path, check: bool = True) -> Check | None:
    """Write a model's graph as one ONNX file (fp32, words as an input).

    Inputs ``images`` float32 ``[windows, 3, rows * patch, columns * patch]`` RGB 0..255 and ``text`` float32
    ``[words, D]``; output ``scores`` float32 ``[windows, words, rows, columns]``, cosines.

    Args:
        model: on the CPU, in fp32.
        path: file to write, atomically.
        check: run it on windows of several shapes and compare with the model.

    Returns:
        what the check found.

    Raises:
        ExportError: for a model without such a graph, without onnx and onnxscript, or if the check fails; no file is
            left then.
        OSError: if the file cannot be written.
    """
    refuse_without_graph(model)
    _need("onnx", "onnxscript", *(("onnxruntime",) if check else ()))
    # the operators' definitions take the place of ovseg's own nodes: they consist of standard ones
    table = {getattr(torch.ops.ovseg, name).default: getattr(reference, name) for name in _OPERATORS}
    program = export_program(model).run_decompositions(table)
    written = torch.onnx.export(
        program,
        (),
        None,
        input_names=["images", "text"],
        output_names=["scores"],
        opset_version=OPSET,
        dynamo=True,
        verbose=False,
    )
    written.model.metadata_props[SETTINGS] = json.dumps(settings_of(model))
    with atomic_path(path) as temporary:
        written.save(temporary, external_data=False)
        found = check_onnx(model, temporary) if check else None
        if found is not None and (found.difference > TOLERANCE or found.labels < 1):
            raise ExportError(
                f"the exported graph differs from the model: cosines by {found.difference:.2g}, "
                f"{found.labels:.2%} of the labels equal; it was not kept"
            )
    return found


_OPERATORS = ("self_self_attention", "correlation_attention")


def settings_of(model: OpenVocabSegmentor) -> dict[str, Any]:
    """What a program around the graph has to know: sizes, windows and the head's settings."""
    return {
        "patch": model.backbone.patch_size,
        "width": model.backbone.tower.embed_dim,
        "smallest_side": smallest_cells(model) * model.backbone.patch_size,
        "probability_scale": model.probability_scale,
        "head": model.head.describe(),
        "windows": model.windows.describe(),
        "attention": repr(model.attention),
        "weights": model.backbone.weights,
        "weights_sha256": model.backbone.sha256,
        "weights_content": model.describe()["weights_content"],
    }


def read_settings(path: str | Path) -> dict[str, Any]:
    """:func:`settings_of` the model that a file was made of.

    Raises:
        ExportError: for a file that is no ONNX file of ovseg.
    """
    return settings_in(path, session(path))


def settings_in(path: str | Path, opened: Any) -> dict[str, Any]:
    """:func:`read_settings` of a session that is open already."""
    text = opened.get_modelmeta().custom_metadata_map.get(SETTINGS)
    if text is None:
        raise ExportError(f"{path} is an ONNX file, but none that ovseg wrote: it has no settings of ovseg")
    return json.loads(text)


def session(path: str | Path, threads: int | None = None) -> Any:
    """An onnxruntime session of a file on the CPU.

    Args:
        threads: of one operator; ``None``: as many as torch uses.

    Raises:
        ExportError: without onnxruntime, or for a file that it cannot read.
    """
    _need("onnxruntime")
    import onnxruntime

    if not Path(path).is_file():
        raise ExportError(f"{path} is no file; `ovseg export` writes one")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or torch.get_num_threads()
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's exceptions share no class but this
        raise ExportError(f"{path} cannot be opened by onnxruntime: {str(error).splitlines()[0]}") from error


def check_onnx(model: OpenVocabSegmentor, path: str | Path) -> Check:
    """Compare a file with its model on random windows of several shapes and 1, 2 and 847 random words."""
    graph, opened = WindowGraph(model).eval(), session(path)
    patch, (rows, columns) = model.backbone.patch_size, model.backbone.tower.native_grid
    generator, least = np.random.default_rng(0), smallest_cells(model)
    worst, equal, total = 0.0, 0, 0
    for count, tall, wide, words in _SHAPES:
        size = tuple(max(least, round(cells * part)) * patch for cells, part in ((rows, tall), (columns, wide)))
        images = generator.integers(0, 256, (count, 3, *size)).astype(np.float32)
        text = generator.standard_normal((words, model.backbone.tower.embed_dim)).astype(np.float32)
        text /= np.linalg.norm(text, axis=1, keepdims=True)
        with torch.no_grad():
            wanted = graph(torch.from_numpy(images), torch.from_numpy(text)).numpy()
        given = opened.run(None, {"images": images, "text": text})[0]
        if given.shape != wanted.shape:
            raise ExportError(f"{path} gives scores of shape {given.shape}, the model {wanted.shape}")
        worst = max(worst, float(np.abs(given - wanted).max()))
        # a best word that is ahead by less than the arithmetic's difference is no other label
        chosen = np.take_along_axis(wanted, given.argmax(1)[:, None], 1)[:, 0]
        equal += int((chosen >= wanted.max(1) - min(worst, TOLERANCE)).sum())
        total += chosen.size
    return Check(worst, equal / total)


def quantise_onnx(source: str | Path, path: str | Path) -> None:
    """An int8 form of a file: weights per channel, activations by their range at run time (onnxruntime's dynamic).

    A quarter of the size. How many labels stay the same is to be measured on photos.

    Raises:
        ExportError: without onnxruntime or onnx, or for a file that cannot be read.
    """
    _need("onnx", "onnxruntime")
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic
    from onnxruntime.quantization.preprocess import quant_pre_process

    settings_in(source, session(source))
    with atomic_path(path) as temporary, tempfile.TemporaryDirectory() as folder:
        folded = Path(folder) / "folded.onnx"  # slices and transposes of weights become weights, which alone are packed
        quant_pre_process(str(source), str(folded), skip_symbolic_shape=True)
        graph = onnx.load(folded).graph
        weights = {w.name for w in graph.initializer if len(w.dims) == 2}
        # not the tables of positions, which are constants but no weights of a linear layer
        kept = [n.name for n in graph.node if n.op_type == "MatMul" and n.input[1] not in weights]
        quantize_dynamic(
            str(folded),
            str(temporary),
            per_channel=True,
            weight_type=QuantType.QInt8,
            op_types_to_quantize=["MatMul", "Gemm"],
            nodes_to_exclude=kept,
            extra_options={"MatMulConstBOnly": True},
        )
        settings_in(temporary, session(temporary))


def _need(*packages: str) -> None:
    import importlib.util

    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    if missing:
        raise ExportError(f"{', '.join(missing)} not installed: pip install 'ovseg[export]'")
