"""Command line of ovseg: ``python -m ovseg`` or ``ovseg``.

Every module of this room whose name has no leading underscore is a command. It offers ``add_parser(commands)``, which
adds the command's arguments and names the function that runs it (``set_defaults(run=...)``); that function takes the
parsed arguments and returns the exit status. Commands import torch and ovseg's rooms inside that function, not at the
top: ``--help`` must not wait for them.

Exit status: 0 done, 1 failed with a message, 2 wrong usage.
"""

from __future__ import annotations

import argparse
import importlib
import pkgutil
import sys
from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape

from ovseg import __version__


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command. Returns the exit status; expected errors are printed without a traceback."""
    args = _parser().parse_args(argv)
    try:
        return args.run(args)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of our output has gone, e.g. `| head`
        sys.stdout = None
        return 0
    except Exception as error:
        if not _expected(error):
            raise
        Console(stderr=True, soft_wrap=True).print(f"[bold red]error:[/] {escape(str(error))}", highlight=False)
        return 1


def _expected(error: Exception) -> bool:
    from ovseg.weights.errors import WeightsError

    return isinstance(error, (WeightsError, OSError))


def commands() -> list[str]:
    """Names of the commands."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__) if not module.name.startswith("_"))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="ovseg", description="Open-vocabulary semantic segmentation.")
    parser.add_argument("--version", action="version", version=f"ovseg {__version__}")
    subparsers = parser.add_subparsers(required=True, metavar="COMMAND")
    for name in commands():
        importlib.import_module(f"{__name__}.{name}").add_parser(subparsers)
    return parser
