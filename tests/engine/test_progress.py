"""Progress: a bar in a terminal, lines in a log, nothing without a console."""

import io

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


def test_silent_without_a_console():
    with EvalProgress(10) as progress:
        assert not progress.wants_miou()
        progress.update(1)
    assert progress.done == 1
