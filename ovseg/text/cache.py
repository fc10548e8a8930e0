"""Text embeddings on disk, one small file per query.

One file per query, not per vocabulary: adding a word encodes one word, and processes that write at the same time never
touch each other's entries. A file is written under another name and then renamed, so a reader sees all of it or none.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
import warnings
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from ovseg.datasets.files import cache_folder

# Part of every key. Raise it when a change to this package changes embeddings.
VERSION = 1


def default_cache_dir() -> Path:
    """``$OVSEG_CACHE/text``, or ``~/.cache/ovseg/text`` where the variable is not set."""
    return cache_folder("text")


class EmbeddingCache:
    """Embeddings of single queries for one fixed model, template set and precision.

    Problems of the disk never stop a run: an unreadable entry counts as absent and an unwritable directory as
    read-only, each with one warning.

    Args:
        directory: where all entries of all models live.
        context: everything besides the query that an embedding depends on.
    """

    def __init__(self, directory: str | Path, context: str) -> None:
        context_hash = hashlib.sha256(f"{VERSION}\n{context}".encode()).hexdigest()
        self.directory = Path(directory).expanduser() / context_hash[:24]
        self._writable = True

    def path(self, query: str) -> Path:
        """The file of ``query``."""
        return self.directory / f"{hashlib.sha256(query.encode()).hexdigest()}.safetensors"

    def get(self, query: str) -> Tensor | None:
        """The stored float32 ``[D]`` embedding, or None if there is no (sound) entry."""
        path = self.path(query)
        try:
            entry = load(path.read_bytes())
            embedding = entry["embedding"]
            if not torch.equal(entry["sha256"], _digest(embedding)):
                raise ValueError("the stored checksum does not match")
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (OSError, SafetensorError, KeyError, ValueError) as error:
            warnings.warn(
                f"text cache: {path} for {query!r} cannot be used ({error!r}); the embedding is computed again",
                stacklevel=2,
            )
            return None
        return embedding

    def put(self, query: str, embedding: Tensor) -> None:
        """Store the float32 ``[D]`` embedding of ``query``, replacing an older entry."""
        if not self._writable:
            return
        content = save({"embedding": embedding, "sha256": _digest(embedding)}, metadata={"query": query})
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            handle, temporary = tempfile.mkstemp(dir=self.directory, suffix=".tmp")
            try:
                with os.fdopen(handle, "wb") as file:
                    file.write(content)
                os.replace(temporary, self.path(query))
            except OSError:
                os.unlink(temporary)
                raise
        except OSError as error:
            self._writable = False
            warnings.warn(
                f"text cache: {self.directory} cannot be written ({error}); embeddings are not kept. "
                "Set OVSEG_CACHE or cache_dir to a writable directory",
                stacklevel=2,
            )


def _digest(embedding: Tensor) -> Tensor:
    content = hashlib.sha256(embedding.contiguous().numpy().tobytes()).digest()
    return torch.frombuffer(bytearray(content), dtype=torch.uint8)
