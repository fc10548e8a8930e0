"""``ovseg demo``: a web page on this machine for trying photos and words.

    ovseg demo
    ovseg demo --port 7860 --host 0.0.0.0

It offers the methods and weights that are on this machine (``ovseg weights list --here``) and fetches nothing. With
--host 0.0.0.0 everybody who reaches this machine can use it; uploaded photos are deleted after an hour and at the end.
"""

from __future__ import annotations

import argparse
import signal
import threading

from ovseg.cli._output import emit, say
from ovseg.cli._status import DONE
from ovseg.errors import SetupError


def add_parser(commands: argparse._SubParsersAction) -> None:
    """The command's arguments."""
    parser = commands.add_parser(
        "demo",
        help="a web page for trying photos and words",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to serve on (default: this machine only)")
    parser.add_argument("--port", type=int, default=7860, help="default: 7860")
    parser.add_argument("--device", help="cpu, cuda, ... (default: cuda where there is a GPU)")
    parser.add_argument("--max-megabytes", type=int, default=20, help="largest file (default: 20)")
    parser.add_argument("--max-pixels", type=int, default=16_000_000, help="largest photo (default: 16000000)")
    parser.add_argument("--max-classes", type=int, default=200, help="most classes at once (default: 200)")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Serve until interrupted; returns the exit status."""
    for name in ("port", "max_megabytes", "max_pixels", "max_classes"):
        if getattr(args, name) < 1:
            raise SetupError(f"--{name.replace('_', '-')} {getattr(args, name)}: give a number from 1")
    try:
        from ovseg.demo.page import served
    except ImportError as error:
        raise SetupError(f"the web page needs Gradio ({error}): pip install 'ovseg[demo]'") from error
    from ovseg.demo.answers import Desk
    from ovseg.demo.limits import Limits, Refused
    from ovseg.demo.models import Models, default_choice
    from ovseg.engine.memory import keep_freed_memory

    keep_freed_memory()
    limits = Limits(megabytes=args.max_megabytes, pixels=args.max_pixels, classes=args.max_classes)
    models = Models(device=args.device)
    try:
        models.get(default_choice())  # the first visitor does not wait for it
    except Refused as error:
        raise SetupError(str(error)) from error
    ended = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: ended.set())  # so that temporary files are deleted then too
    with served(Desk(models, limits), args.host, args.port) as address:
        emit("page", address=address)
        say(f"ovseg's web page: {address}  (Ctrl-C ends it)", stderr=False)
        try:
            ended.wait()
        except KeyboardInterrupt:
            say("ended", "yellow")
    return DONE
