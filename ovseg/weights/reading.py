"""Reads checkpoint files of any format without running anything that is inside them.

The format is told from the content, never from the file's ending:

- safetensors,
- PyTorch zip and legacy pickle, with ``weights_only=True`` and a short allow-list of harmless classes,
- TorchScript archives (OpenAI's CLIP), see :mod:`ovseg.weights.torchscript`.
"""

from __future__ import annotations

import argparse
import re
import zipfile
from collections.abc import Callable, Mapping
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.torch
import torch
from torch import Tensor

from .errors import CheckpointError
from .hashes import regular_file
from .torchscript import is_torchscript, read_torchscript

DOWNLOAD_AGAIN = (
    "Give another file, or get it again: `ovseg weights fetch --again NAME` puts a fresh copy into ovseg's "
    "cache and touches no other file"
)

# Where training scripts put the weights, in the order in which they are looked for. A DINO training checkpoint holds
# both `teacher` and `student`; the teacher is the one that is evaluated.
CONTAINERS = ("state_dict", "model_state_dict", "model", "model_ema", "teacher", "student", "module")
_PREFIXES = ("module.", "_orig_mod.")
# Entries of OpenAI's state dicts that describe the model and are not weights. Nobody else saves them.
OPENAI_ENTRIES = ("input_resolution", "context_length", "vocab_size")
# An archive of PyTorch holds its tensors as they are; one that would grow beyond this is no checkpoint but a bomb.
_GROWTH, _SLACK = 2, 256 << 20

# What readers of damaged files raise. No list of classes would do: torch's unpickler calls what a file names (of those
# it allows) with whatever the file gives, and passes on what comes out, such as the LookupError of an unknown codec.
DAMAGE = (Exception,)


def load_state_dict(path: str | PathLike[str]) -> dict[str, Tensor]:
    """Reads the weights of a checkpoint file, on the CPU, in the dtypes of the file.

    Nested containers of training scripts (``state_dict``, ``model``, ``teacher`` ...) are opened and the prefixes of
    wrappers (``module.``, ``_orig_mod.``) removed; entries that are not tensors are dropped.

    Args:
        path: A .safetensors, .pt, .pth, .bin or .ckpt file, or a TorchScript archive.

    Returns:
        Tensors by key; they own their memory, the file can be removed afterwards.

    Raises:
        CheckpointError: No such file, a directory, damaged, not a checkpoint, or asks for code to be run (nothing is).
    """
    return load_weights(path)[0]


def load_weights(path: str | PathLike[str]) -> tuple[dict[str, Tensor], bool]:
    """As :func:`load_state_dict`, and whether the file has OpenAI's layout: the three integers beside the weights that
    only OpenAI saves (:data:`OPENAI_ENTRIES`). The activation, QuickGELU, stands nowhere in such a file."""
    path = Path(path)
    weights = _weights_of(path, read_checkpoint(path))
    openai = all(name in weights for name in OPENAI_ENTRIES)
    kept = {name: tensor for name, tensor in weights.items() if name not in OPENAI_ENTRIES}
    _check_tensors(path, kept)
    return kept, openai


def read_checkpoint(path: str | PathLike[str]) -> Any:
    """Reads a checkpoint file as it was saved: usually nested dicts of tensors. Raises as :func:`load_state_dict`."""
    path = Path(path)
    reader = _reader_for(path)
    # Weights that came to be under inference_mode could never be trained or cast later.
    with torch.inference_mode(False), torch.no_grad():
        return reader(path)


def check_format(path: Path) -> None:
    """Looks at the first bytes of a file only. Raises :class:`CheckpointError` if it is not a checkpoint."""
    _reader_for(path)


def _reader_for(path: Path) -> Callable[[Path], Any]:
    size = regular_file(path).st_size
    if size == 0:
        raise CheckpointError(path, "is empty", DOWNLOAD_AGAIN)
    try:
        with path.open("rb") as file:
            head = file.read(512)
    except OSError as error:
        problem = f"cannot be read ({error.strerror or error})"
        raise CheckpointError(path, problem, "Check its permissions") from None
    if head.startswith(b"PK\x03\x04"):
        return _read_zip
    # safetensors first: its length of the header may begin with the byte that marks a pickle
    if len(head) > 8 and head[8:9] == b"{" and int.from_bytes(head[:8], "little") < 100_000_000:
        return _read_safetensors
    if head.startswith(b"\x80") and len(head) > 1 and head[1] <= 5:
        return _read_torch
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if text.startswith((b"<!doctype", b"<html", b"<?xml", b"<head", b"<error")):
        raise CheckpointError(
            path, "is a web page, not a checkpoint (a login, licence or error page was saved)", DOWNLOAD_AGAIN
        )
    if text.startswith(b"version https://git-lfs"):
        raise CheckpointError(path, "is a Git LFS pointer, not the file itself", "Run `git lfs pull`")
    raise CheckpointError(
        path, f"is not a checkpoint: {size:,} bytes that are neither safetensors nor a PyTorch file", DOWNLOAD_AGAIN
    )


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        # The tensors are views of the mapped file: copies stay valid when the file is replaced or removed.
        return {key: value.clone() for key, value in safetensors.torch.load_file(path).items()}
    except DAMAGE as error:
        raise CheckpointError(
            path, f"is a damaged or truncated safetensors file ({_one_line(error)})", DOWNLOAD_AGAIN
        ) from None


def _read_zip(path: Path) -> Any:
    size = regular_file(path).st_size
    try:
        with zipfile.ZipFile(path) as archive:
            names = {name.split("/", 1)[-1] for name in archive.namelist()}
            grown = sum(member.file_size for member in archive.infolist())
            torchscript = is_torchscript(archive)
    except zipfile.BadZipFile:
        raise CheckpointError(
            path, f"is truncated: a PyTorch archive whose end is missing ({size:,} bytes are there)", DOWNLOAD_AGAIN
        ) from None
    except DAMAGE as error:
        raise CheckpointError(path, f"is a damaged archive ({_one_line(error)})", DOWNLOAD_AGAIN) from None
    if grown > _GROWTH * size + _SLACK:
        raise CheckpointError(
            path,
            f"would unpack from {size:,} to {grown:,} bytes, which no checkpoint does; it was not unpacked",
            "Do not use the file",
        )
    if "data.pkl" not in names:
        raise CheckpointError(path, "is a zip file, but not a PyTorch checkpoint", "Give the checkpoint itself")
    if not torchscript:
        return _read_torch(path)
    try:
        return read_torchscript(path)
    except DAMAGE as error:
        raise CheckpointError(
            path,
            f"cannot be read as a TorchScript archive without executing it ({_one_line(error)}); nothing was executed",
            DOWNLOAD_AGAIN + ". If you made and trust it, save `torch.jit.load(FILE).state_dict()` as safetensors",
        ) from None


def _read_torch(path: Path) -> Any:
    try:
        with torch.serialization.safe_globals(_harmless_globals()):
            return torch.load(path, map_location="cpu", weights_only=True)
    except DAMAGE as error:
        refused = re.search(r"(?i:unsupported global):?\s+(?:GLOBAL\s+)?([\w.]+)", str(error))
        if refused is not None:
            raise CheckpointError(
                path,
                f"asks for `{refused[1]}`, which is code and not weights; refused, nothing was executed",
                "Do not use the file unless you know where it comes from; if you do, load it in a place of its own and "
                "save only the tensors as safetensors",
            ) from None
        raise CheckpointError(path, f"is damaged or truncated ({_one_line(error)})", DOWNLOAD_AGAIN) from None


def _harmless_globals() -> list[Any]:
    """Classes that DINO's, SAM's and other training scripts save beside the weights, and that only hold data."""
    scalar = np.float64(0).__reduce__()[0]  # numpy moved it between modules: ask it where it is
    dtypes = {type(np.dtype(t)) for t in (np.float64, np.float32, np.int64, np.int32, np.bool_)}
    return [
        argparse.Namespace,
        np.dtype,
        *dtypes,
        (scalar, "numpy.core.multiarray.scalar"),
        (scalar, "numpy._core.multiarray.scalar"),
    ]


def _weights_of(path: Path, checkpoint: Any) -> dict[str, Tensor]:
    for _ in range(4):
        if not isinstance(checkpoint, Mapping):
            break
        nested = [c for c in CONTAINERS if isinstance(checkpoint.get(c), Mapping)]
        if not nested:
            break
        checkpoint = checkpoint[nested[0]]
    weights = {}
    if isinstance(checkpoint, Mapping):
        weights = {k: v for k, v in checkpoint.items() if isinstance(k, str) and isinstance(v, Tensor)}
    if not any(name not in OPENAI_ENTRIES for name in weights):
        what = (
            ", ".join(map(str, list(checkpoint)[:5])) if isinstance(checkpoint, Mapping) else type(checkpoint).__name__
        )
        raise CheckpointError(path, f"holds no weights (found: {what or 'nothing'})", "Give a file with a state dict")
    for prefix in _PREFIXES:
        if weights and all(key.startswith(prefix) for key in weights):
            weights = {key[len(prefix) :]: value for key, value in weights.items()}
    return weights


def _check_tensors(path: Path, weights: Mapping[str, Tensor]) -> None:
    """Refuses tensors that are not plain arrays: a few bytes may claim a size that no memory holds."""
    for name, tensor in weights.items():
        if tensor.layout != torch.strided or tensor.is_quantized or tensor.is_meta:
            kind = "quantised" if tensor.is_quantized else "without values" if tensor.is_meta else str(tensor.layout)
            raise CheckpointError(path, f"holds {name} as a tensor that is {kind}", "Save it as plain (dense) tensors")
        if tensor.nbytes > tensor.untyped_storage().nbytes():
            raise CheckpointError(
                path,
                f"{name} claims the shape {tuple(tensor.shape)}, {tensor.nbytes:,} bytes, of which the file holds "
                f"{tensor.untyped_storage().nbytes():,}",
                DOWNLOAD_AGAIN,
            )


def _one_line(error: Exception, limit: int = 160) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    # torch wraps its reason in advice on how to load unsafely
    text = re.split(r"WeightsUnpickler error: |trusted source\. ", text)[-1].split(" Check the documentation")[0]
    return text if len(text) <= limit else text[: limit - 3] + "..."
