"""Command line of ovseg: ``python -m ovseg`` or ``ovseg``.

Every module of this room whose name has no leading underscore is a command. It offers ``add_parser(commands)``, which
adds the command's arguments and names the function that runs it (``set_defaults(run=...)``); that function takes the
parsed arguments and returns the exit status. Commands import torch and ovseg's rooms inside that function, not at the
top: ``--help`` must not wait for them. The scripts in ``tools/`` and ``demo/`` are doors to these commands.

Exit status of every command and script, named in :mod:`ovseg.cli._status`:

==== ===================================================================================================================
0    done
1    done in part (a photo could not be read, a file does not verify, a data set is not complete), or an error that
     nobody expected, with its traceback
2    what was asked for cannot be run: wrong usage, or a config, file, folder, device or word that does not fit; one
     line says which and what to do
3    ``eval``: finished, but samples were skipped
130  interrupted; ``eval``, ``nano`` and ``train`` go on with ``--resume``
==== ===================================================================================================================

Set ``OVSEG_TRACEBACK=1`` to see where an error of one line comes from.
"""

from __future__ import annotations

import argparse
import importlib
import os
import pkgutil
import sys
from collections.abc import Iterator, Sequence

from ovseg import __version__
from ovseg.cli._arguments import is_first_process
from ovseg.cli._output import emit, json_lines, say
from ovseg.cli._status import INTERRUPTED, SETUP

_STATUS = """exit status: 0 done; 1 done in part, or an unexpected error; 2 cannot be run as asked (one line says why);
3 evaluated, but samples were skipped; 130 interrupted"""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command. Returns the exit status; expected errors are printed without a traceback."""
    args = make_parser().parse_args(argv)
    with json_lines(args.json):
        return _run(args)


def _run(args: argparse.Namespace) -> int:
    try:
        return args.run(args)
    except KeyboardInterrupt:
        hint = "; the same command with --resume goes on" if hasattr(args, "resume") else ""
        if is_first_process(getattr(args, "launcher", "none")):
            say(f"interrupted{hint}", "yellow")
        return INTERRUPTED
    except BrokenPipeError:  # the reader of our output has gone, e.g. `| head`
        sys.stdout = None
        return 0
    except Exception as error:
        if not _expected(error) or os.environ.get("OVSEG_TRACEBACK"):
            raise
        if is_first_process(getattr(args, "launcher", "none")):
            say(f"error: {error}", "red")
        status = getattr(args, "status_of_errors", SETUP)
        emit("error", error=str(error), exit_status=status)
        return status


def door(command: str, argv: Sequence[str] | None = None) -> int:
    """What a script does: a command with the script's own arguments (``None``: those of the process)."""
    return main([command, *(sys.argv[1:] if argv is None else argv)])


def _expected(error: Exception) -> bool:
    from ovseg.datasets.errors import DatasetNotFound
    from ovseg.errors import SetupError
    from ovseg.weights.errors import WeightsError

    return isinstance(error, (SetupError, DatasetNotFound, WeightsError, OSError))


def commands() -> list[str]:
    """Names of the commands."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__) if not module.name.startswith("_"))


def make_parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    parser = argparse.ArgumentParser(
        prog="ovseg",
        description="Open-vocabulary semantic segmentation.",
        epilog=_STATUS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"ovseg {__version__}")
    subparsers = parser.add_subparsers(required=True, metavar="COMMAND")
    for name in commands():
        importlib.import_module(f"{__name__}.{name}").add_parser(subparsers)
    for command in runnable(parser):
        command.add_argument("--json", action="store_true", help="JSON lines on standard output (docs/cli.md)")
    return parser


def runnable(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    """The parsers below this one that run something."""
    inner = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    if not inner:
        yield parser
    for action in inner:
        for below in action.choices.values():
            yield from runnable(below)
