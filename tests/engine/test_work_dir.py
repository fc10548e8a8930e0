"""A work directory takes files and belongs to one run."""

import errno
import os
import signal
import subprocess
import sys

import pytest

from ovseg.engine import SetupError, hold_work_dir
from ovseg.engine.work_dir import LOCK

HOLDER = """
import sys, time
from ovseg.engine import hold_work_dir
with hold_work_dir(sys.argv[1]):
    print("held", flush=True)
    time.sleep(600)
"""


def test_one_run_at_a_time(tmp_path):
    other = subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    try:
        assert other.stdout.readline().strip() == "held"
        with pytest.raises(SetupError, match=f"in use by another run .process {other.pid} on .*--work-dir"):
            with hold_work_dir(tmp_path):
                pass
        with hold_work_dir(tmp_path, main=False):
            pass  # the other processes of the run that holds it
    finally:
        other.send_signal(signal.SIGKILL)
        other.wait()
    assert (tmp_path / LOCK).exists(), "a killed run leaves its files"
    with hold_work_dir(tmp_path / "." / ""):
        with pytest.raises(SetupError, match=f"process {os.getpid()} on"):
            with hold_work_dir(tmp_path):
                pass
    with hold_work_dir(tmp_path):
        pass


@pytest.mark.parametrize("place", ["/proc/ovseg", "file/work", "file"])
def test_folders_that_cannot_be(tmp_path, place):
    (tmp_path / "file").touch()
    with pytest.raises(SetupError, match="cannot write to work directory .*; give another --work-dir"):
        with hold_work_dir(tmp_path / place):
            pass


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EDQUOT, errno.EACCES])
def test_disks_that_take_nothing(tmp_path, monkeypatch, number):
    def refuse(*args, **kwargs):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(SetupError, match=os.strerror(number)):
        with hold_work_dir(tmp_path):
            pass


def test_what_a_killed_run_left_goes(tmp_path):
    (tmp_path / ".probe").write_bytes(b"left")
    with hold_work_dir(tmp_path):
        assert not (tmp_path / ".probe").exists()
