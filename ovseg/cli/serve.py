"""``ovseg serve``: a model behind HTTP.

    ovseg serve --model nano-photo --port 8000
    curl --data-binary @photo.jpg 'localhost:8000/v1/segment?classes=cat,sofa,grass&format=areas'

Requests of any sizes and words that wait at the same time are encoded together. /health, /ready and /metrics
(Prometheus) are for machines. SIGTERM and Ctrl-C: no new requests, those in hand are answered, then the end. There is
no login: put a proxy before it, or keep the default address, which only this machine reaches.
"""

from __future__ import annotations

import argparse
import socket

from ovseg.cli._arguments import count
from ovseg.cli._model import add_model_options, load_model
from ovseg.cli._output import emit, say
from ovseg.cli._status import DONE
from ovseg.errors import SetupError


def add_parser(commands: argparse._SubParsersAction) -> None:
    """The command's arguments."""
    parser = commands.add_parser(
        "serve",
        help="a model behind HTTP",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_model_options(parser, classes=False)
    parser.add_argument("--host", default="127.0.0.1", help="address to serve on (default: this machine only)")
    parser.add_argument("--port", type=int, default=8000, help="default: 8000; 0: one that is free")
    parser.add_argument("--batch", type=count, default=8, help="most photos encoded together (default: 8)")
    parser.add_argument("--wait-ms", type=float, default=0.0, help="a request waits so long for company (default: 0)")
    parser.add_argument("--threads", type=count, help="of torch on the CPU (default: torch's own)")
    parser.add_argument("--max-megabytes", type=count, default=20, help="largest body (default: 20)")
    parser.add_argument("--max-pixels", type=count, default=16_000_000, help="largest photo (default: 16000000)")
    parser.add_argument("--max-classes", type=count, default=200, help="most classes (default: 200)")
    parser.add_argument("--max-waiting", type=count, default=64, help="most requests in hand (default: 64)")
    parser.add_argument("--max-seconds", type=count, default=60, help="of one request (default: 60)")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Serve until SIGTERM or Ctrl-C; returns the exit status."""
    try:
        from ovseg.serve.app import Service, serve
    except ImportError as error:
        raise SetupError(f"the service needs FastAPI and uvicorn ({error}): pip install 'ovseg[serve]'") from error
    import torch

    from ovseg.engine.memory import keep_freed_memory
    from ovseg.serve import Limits

    keep_freed_memory()
    if args.threads is not None:
        torch.set_num_threads(args.threads)
    if args.classes is not None or args.background is not None:
        raise SetupError("--classes and --background belong to requests: /v1/segment?classes=...")
    limits = Limits(
        megabytes=args.max_megabytes,
        pixels=args.max_pixels,
        classes=args.max_classes,
        prompts=2 * args.max_classes,
        waiting=args.max_waiting,
        seconds=args.max_seconds,
    )
    service = Service(load_model(args), limits, args.batch, args.wait_ms / 1000)
    try:
        listener = socket.create_server((args.host, args.port), reuse_port=False)
    except (OSError, OverflowError) as error:
        raise SetupError(f"cannot serve on {args.host}:{args.port}: {error}") from error
    address = f"http://{args.host}:{listener.getsockname()[1]}"
    emit("service", address=address)
    say(f"{address}/v1/segment  (Ctrl-C ends it)", stderr=False)
    serve(service, listener)
    return DONE
