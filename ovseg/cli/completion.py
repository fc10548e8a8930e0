"""``ovseg completion``: a script that completes the commands and options of ovseg in your shell.

ovseg completion bash > ~/.local/share/bash-completion/completions/ovseg
ovseg completion zsh > ~/.zfunc/_ovseg        # a folder in $fpath
ovseg completion tcsh > ~/.ovseg.tcsh         # source it in ~/.tcshrc
"""

from __future__ import annotations

import argparse

from ovseg.cli._output import emit
from ovseg.cli._status import DONE

FILES = {"archive", "checkpoint", "config", "images", "out", "output", "photo", "photos", "truth"}
FOLDERS = {"data_root", "show_dir", "work_dir"}
"""Arguments that name files and folders."""


def add_parser(commands: argparse._SubParsersAction) -> None:
    """The command's arguments."""
    parser = commands.add_parser(
        "completion",
        help="a script for completion in your shell",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("shell", choices=("bash", "tcsh", "zsh"))
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print the script."""
    import shtab

    from ovseg.cli import make_parser, runnable

    parser = make_parser()
    for command in runnable(parser):
        for action in command._actions:
            if action.dest in FILES | FOLDERS and action.choices is None:
                kind = shtab.FILE if action.dest in FILES else shtab.DIRECTORY
                setattr(action, "complete", kind)  # noqa: B010  shtab's own attribute, which argparse does not know
    script = shtab.complete(parser, args.shell)
    print(script)
    emit("completion", shell=args.shell, script=script)
    return DONE
