"""The folder of a run: it can be written to, and it belongs to one run at a time."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock, Timeout

from ovseg.engine.errors import SetupError

LOCK = ".run.lock"
_PROBE = bytes(64 * 1024)


@contextmanager
def hold_work_dir(
    path: str | Path, main: bool = True, what: str = "work directory", option: str = "--work-dir"
) -> Iterator[Path]:
    """Make a work directory, check that it takes files, and hold it against other runs.

    The lock is the operating system's: it ends with the process that holds it, however that ends, so a file left
    behind by a killed run blocks nobody. What the file says (process, machine, start) is for people.

    Args:
        path: the folder.
        main: whether this is the main process of the run; the others only wait for nothing and hold nothing.
        what, option: how messages call the folder, and what names another one.

    Raises:
        SetupError: if the folder cannot be made or written to, or another run is in it.
    """
    folder = Path(path)
    if not main:
        yield folder
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / LOCK, timeout=0, is_singleton=False)
        lock.acquire()
    except NotImplementedError:  # a file system without locks: runs cannot be told apart there
        lock = None
    except Timeout as error:
        raise SetupError(
            f"{what} {folder} is in use by another run ({_holder(folder)}): wait until it ends, stop it, or "
            f"give this run another {option}"
        ) from error
    except OSError as error:
        raise _unwritable(folder, error, what, option) from error
    try:
        _try_to_write(folder, what, option)
        (folder / f"{LOCK}.json").write_text(
            json.dumps(
                {
                    "pid": os.getpid(),
                    "host": socket.gethostname(),
                    "since": datetime.now(UTC).isoformat(timespec="seconds"),
                }
            )
        )
        yield folder
    finally:
        (folder / f"{LOCK}.json").unlink(missing_ok=True)
        if lock is not None:
            lock.release()


def _try_to_write(folder: Path, what: str, option: str) -> None:
    """Write a file and remove it; only who holds the folder may, so that one that a killed run left is overwritten."""
    probe = folder / ".probe"
    try:
        with probe.open("wb") as file:
            file.write(_PROBE)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise _unwritable(folder, error, what, option) from error
    finally:
        probe.unlink(missing_ok=True)


def _unwritable(folder: Path, error: OSError, what: str, option: str) -> SetupError:
    return SetupError(f"cannot write to {what} {folder}: {error.strerror or error}; give another {option}")


def _holder(folder: Path) -> str:
    """Who holds the lock, as far as the note beside it tells."""
    try:
        note = json.loads((folder / f"{LOCK}.json").read_text())
        return f"process {note['pid']} on {note['host']}, since {note['since']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "it has not said which"
