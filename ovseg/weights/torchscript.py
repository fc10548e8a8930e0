"""Reads the tensors of a TorchScript archive without executing it.

OpenAI publishes CLIP as TorchScript. ``torch.jit.load`` would compile and could run the code inside such a file. The
weights need none of it: the archive is a zip whose ``data.pkl`` pickles the module tree (objects of classes called
``__torch__.<...>``) and whose ``data/<n>`` members are the raw storages. This reader rebuilds the tree with its own
unpickler: every TorchScript class becomes an inert holder of attributes, tensors become views of the storages, and any
other global is refused. The code in the archive is never opened.
"""

from __future__ import annotations

import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

_STORAGE_DTYPES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}
_TYPED_LISTS = {"build_intlist", "build_tensorlist", "build_doublelist", "build_boollist"}


def is_torchscript(archive: zipfile.ZipFile) -> bool:
    """Whether a PyTorch zip is a TorchScript archive (these have ``constants.pkl``, plain checkpoints do not)."""
    return any(name.split("/", 1)[-1] == "constants.pkl" for name in archive.namelist())


def read_torchscript(path: Path) -> dict[str, Tensor]:
    """Tensors of a TorchScript archive by dotted name, as ``state_dict()`` of the module would name them.

    Attributes of the module that are tensors but were not registered cannot be told from buffers: they are included.

    Raises:
        pickle.UnpicklingError: The archive refers to anything that is not a module, a tensor or a plain container.
        zipfile.BadZipFile, KeyError, ValueError, EOFError: The archive is damaged.
    """
    with zipfile.ZipFile(path) as archive:
        pickles = [name for name in archive.namelist() if name.split("/", 1)[-1] == "data.pkl"]
        if len(pickles) != 1:
            raise ValueError(f"expected one data.pkl in the archive, found {len(pickles)}")
        root = pickles[0][: -len("data.pkl")]
        with archive.open(pickles[0]) as file:
            tree = _Unpickler(file, _StorageReader(archive, root)).load()
    return dict(_walk(tree, "", set()))


class _StorageReader:
    """Reads ``data/<key>`` members as flat tensors, each once. ``zipfile`` checks the CRC of what it reads."""

    def __init__(self, archive: zipfile.ZipFile, root: str) -> None:
        self._archive = archive
        self._root = root
        self._cache: dict[str, Tensor] = {}

    def __call__(self, key: str, dtype: torch.dtype, numel: int) -> Tensor:
        if key not in self._cache:
            raw = bytearray(self._archive.read(f"{self._root}data/{key}"))
            itemsize = torch.empty((), dtype=dtype).element_size()
            if len(raw) != numel * itemsize:
                raise ValueError(f"storage {key} has {len(raw)} bytes, its index says {numel} x {itemsize}")
            self._cache[key] = torch.frombuffer(raw, dtype=dtype) if numel else torch.empty(0, dtype=dtype)
        return self._cache[key]


class _ModuleState:
    """The attributes of one module of the archive; has no behaviour."""

    def __setstate__(self, state: Any) -> None:
        if not isinstance(state, dict):
            raise pickle.UnpicklingError(f"a module holds {type(state).__name__} where its attributes belong")
        vars(self).update(state)


class _Unpickler(pickle.Unpickler):
    """Knows modules, tensors and plain containers; ``find_class`` refuses every other global by name."""

    def __init__(self, file: Any, read_storage: _StorageReader) -> None:
        super().__init__(file)
        self._read_storage = read_storage
        # Made anew for each file: a pickle may set attributes on a class it was given, and must not reach ours.
        self._node = type("_Node", (_ModuleState,), {})
        self._classes: dict[tuple[str, str], Any] = {
            ("collections", "OrderedDict"): OrderedDict,
            ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor,
            ("torch._utils", "_rebuild_parameter"): lambda data, requires_grad, hooks: data,
            ("torch.jit._pickle", "restore_type_tag"): lambda value, type_name: value,
        }

    def find_class(self, module: str, name: str) -> Any:
        if module == "__torch__" or module.startswith("__torch__."):
            return self._node
        if (module, name) in self._classes:
            return self._classes[module, name]
        if module == "torch" and name in _STORAGE_DTYPES:
            return _STORAGE_DTYPES[name]
        if module == "torch.jit._pickle" and name in _TYPED_LISTS:
            return _typed_list
        raise pickle.UnpicklingError(f"the archive asks for `{module}.{name}`, which is not a module or a tensor")

    def persistent_load(self, pid: Any) -> Tensor:
        kind, dtype, key, _device, numel = pid
        if kind != "storage" or not isinstance(dtype, torch.dtype) or not isinstance(key, str):
            raise pickle.UnpicklingError(f"unknown persistent id {kind!r}")
        return self._read_storage(key, dtype, int(numel))


def _rebuild_tensor(storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> Tensor:
    if not isinstance(storage, Tensor):
        raise pickle.UnpicklingError("a tensor without a storage")
    return storage.as_strided(size, stride, offset)  # as_strided checks the bounds


def _typed_list(values: Any) -> Any:
    return values


def _walk(node: Any, prefix: str, seen: set[int]) -> Iterator[tuple[str, Tensor]]:
    """Each module is visited once, so that no file can make this endless."""
    if not isinstance(node, _ModuleState) or id(node) in seen:
        return
    seen.add(id(node))
    for name, value in vars(node).items():
        if isinstance(value, Tensor):
            yield f"{prefix}{name}", value
        else:
            yield from _walk(value, f"{prefix}{name}.", seen)
