"""Progress: a bar in a terminal, lines in a log, nothing without a console."""

import io
import re
import time

import pytest
from rich.console import Console

from ovseg.engine.progress import EvalProgress


def test_bar_in_a_terminal_shows_counts_and_running_miou():
    file = io.StringIO()
    with EvalProgress(10, done=2, console=Console(file=file, force_terminal=True, width=120)) as progress:
        progress.update(3, miou=41.234)
    text = file.getvalue()
    assert "5/10" in text and "mIoU 41.23" in text


def test_lines_in_a_log():
    file = io.StringIO()
    with EvalProgress(10, console=Console(file=file, width=120), every=0.0) as progress:
        progress.update(2)
        assert file.getvalue() == ""
        assert progress.wants_miou()
        progress.update(2, miou=12.3)
    assert "4/10 images, running mIoU 12.30" in file.getvalue() and "s left" in file.getvalue()


@pytest.mark.parametrize("jump", [-(10**9), 10**9])
@pytest.mark.parametrize("terminal", [False, True])
def test_a_clock_that_is_set_changes_no_rate(monkeypatch, jump, terminal):
    """Rates and time left are of a clock that only runs on; a person or NTP sets the other."""
    file, now = io.StringIO(), time.time
    console = Console(file=file, force_terminal=terminal, width=160)
    with EvalProgress(1000, console=console, every=0.0) as progress:
        progress.update(1, miou=10.0)
        monkeypatch.setattr(time, "time", lambda: now() + jump)
        time.sleep(0.02)
        progress.update(499, miou=12.3)
    if terminal:
        assert "500/1000" in file.getvalue() and "0:00:00" in file.getvalue()
        return
    rate, left = re.search(r"([\d.]+) img/s, (\S+) s left\n$", file.getvalue()).groups()
    assert 50 < float(rate) < 1e6 and 0 <= float(left) < 60


def test_silent_without_a_console():
    with EvalProgress(10) as progress:
        assert not progress.wants_miou()
        progress.update(1)
    assert progress.done == 1
