"""Tables with encoded pictures in their cells: parquet, and arrow as Hugging Face's ``save_to_disk`` writes it."""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from functools import lru_cache
from itertools import accumulate
from threading import Lock
from typing import Any

from ovseg.errors import SetupError

TABLES = (".parquet", ".parq", ".arrow")
"""Endings of tables."""


class Table:
    """A table of which groups of rows are read, whatever its format.

    Args:
        file: a path, or, of parquet, an open binary file with seeks.
        name: of the file, whose ending tells the format.

    Attributes:
        schema: pyarrow's.
        ends: number of the row after each group's last.

    Raises:
        pyarrow.ArrowException, OSError: for a file that is no such table.
    """

    def __init__(self, file: Any, name: str) -> None:
        import pyarrow.parquet as parquet

        self._batches: list[Any] | None = None
        self._lock = Lock()
        if name.lower().endswith(".arrow"):
            self.schema, self._batches = _arrow(file)
            counts = [batch.num_rows for batch in self._batches]
        else:
            self._file = parquet.ParquetFile(file)
            self.schema = self._file.schema_arrow
            counts = [self._file.metadata.row_group(i).num_rows for i in range(self._file.num_row_groups)]
        self.ends = list(accumulate(counts))
        # the photos and the label maps of one group
        self._kept = lru_cache(maxsize=2)(self._read)

    def column(self, group: int, name: str) -> Any:
        """A column of a group of rows, not kept."""
        return self._read(group, name)

    def cell(self, row: int, column: str) -> object:
        """A cell as Python has it; of each of two columns, the group read last is kept.

        Raises:
            IndexError: for a row that is not there.
        """
        group = bisect.bisect_right(self.ends, row)
        if group == len(self.ends):
            raise IndexError(row)
        with self._lock:
            return self._kept(group, column)[row - (self.ends[group - 1] if group else 0)].as_py()

    def _read(self, group: int, column: str) -> Any:
        if self._batches is not None:
            return self._batches[group].column(column)
        return self._file.read_row_group(group, columns=[column], use_threads=False)[column]


def _arrow(file: Any) -> tuple[Any, Sequence[Any]]:
    """Schema and batches of a stream or file of arrow; the bytes of their cells stay in the file."""
    import pyarrow

    if not isinstance(file, str):
        raise pyarrow.ArrowInvalid("arrow is read from this machine's disks alone; copy it here, or write parquet")
    source = pyarrow.memory_map(file)
    try:
        reader = pyarrow.ipc.open_stream(source)
        return reader.schema, list(reader)
    except pyarrow.ArrowInvalid:
        reader = pyarrow.ipc.open_file(source)
        return reader.schema, [reader.get_batch(i) for i in range(reader.num_record_batches)]


def need_pyarrow(what: str) -> Any:
    """pyarrow.

    Raises:
        SetupError: saying what to install, without it.
    """
    try:
        import pyarrow
        import pyarrow.ipc
    except ImportError as error:
        raise SetupError(f"{what} needs pyarrow: pip install pyarrow (or 'ovseg[scale]')") from error
    return pyarrow
