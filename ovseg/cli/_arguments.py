"""Arguments that several commands share."""

from __future__ import annotations

import argparse
import ast
import functools
import os
from collections.abc import Sequence
from typing import Any


class CfgOptions(argparse.Action):
    """``KEY=VALUE ...`` into a dict, with the habits of MMEngine's ``DictAction``.

    A value is a number, ``True``, ``False``, ``None``, text, a list (``1,2`` or ``[1,2]``), a tuple (``(1,2)``), or any
    Python literal. Spaces in text stay (``[traffic light,car]``); a comma in text needs quotes of its own
    (``'"a,b.txt"'``).
    """

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,
    ) -> None:
        options = dict(getattr(namespace, self.dest) or {})
        for item in [values] if isinstance(values, str) else values or ():
            key, equals, text = item.partition("=")
            if not equals or not all(part.strip() for part in key.split(".")):
                parser.error(f"{option_string} {item!r}: write KEY=VALUE, e.g. model.head.logit_scale=50")
            try:
                options[key.strip()] = parse_value(text)
            except ValueError as error:
                parser.error(f"{option_string} {item!r}: {error}")
        setattr(namespace, self.dest, options)


def parse_value(text: str) -> object:
    """The value that a text on the command line stands for.

    Raises:
        ValueError: for brackets or quotes that do not match.

    >>> parse_value("448"), parse_value("1e-3"), parse_value("true"), parse_value("a,2"), parse_value("(8, 16)")
    (448, 0.001, True, ['a', 2], (8, 16))
    >>> parse_value("[traffic light, car]"), parse_value("openai/ViT-B-16"), parse_value("None")
    (['traffic light', 'car'], 'openai/ViT-B-16', None)
    """
    text = text.strip()
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    if text == "None":
        return None
    for number in (int, float):
        try:
            return number(text)
        except ValueError:
            continue
    if text[:1] in ("[", "(", "{", "'", '"'):
        try:
            return ast.literal_eval(text)
        except (ValueError, SyntaxError):
            pass
    parts = _split(text)
    for opening, closing, kind in (("[", "]", list), ("(", ")", tuple)):
        if text.startswith(opening) and text.endswith(closing) and len(parts) == 1:
            inner = text[1:-1].strip()
            return kind(parse_value(part) for part in _split(inner) if part.strip())
    return [parse_value(part) for part in parts if part.strip()] if len(parts) > 1 else text


def _split(text: str) -> list[str]:
    """``text`` at its commas outside brackets and quotes."""
    parts, start, depth, quote = [], 0, 0, ""
    for i, character in enumerate(text):
        if quote:
            quote = "" if character == quote else quote
        elif character in "'\"" and (i == 0 or text[i - 1] in ",[( "):
            quote = character
        elif character in "[(":
            depth += 1
        elif character in "])":
            depth -= 1
        elif character == "," and depth == 0:
            parts.append(text[start:i])
            start = i + 1
        if depth < 0:
            break
    if depth or quote:
        raise ValueError(f"brackets or quotes in {text!r} do not match")
    return [*parts, text[start:]]


def add_cfg_options(parser: argparse.ArgumentParser) -> None:
    """``--cfg-options``."""
    parser.add_argument("--cfg-options", nargs="+", action=CfgOptions, help="override settings: key.of.setting=value")


def add_launcher(parser: argparse.ArgumentParser) -> None:
    """``--launcher`` and what launchers add."""
    parser.add_argument("--launcher", choices=("none", "pytorch", "slurm", "mpi"), default="none")
    # torch.distributed.launch gives it as an argument, torchrun in the environment
    parser.add_argument("--local_rank", "--local-rank", type=int, default=0, help=argparse.SUPPRESS)


def set_local_rank(args: argparse.Namespace) -> None:
    """What launchers gave as an argument, where MMEngine looks for it."""
    os.environ.setdefault("LOCAL_RANK", str(args.local_rank))


def is_first_process(launcher: str) -> bool:
    """Whether this process speaks for all of a run; the others would say the same, and would wait for its lock.

    MMEngine knows its place only after the runner is built; until then it is where the launcher left it.
    """
    variable = {"slurm": "SLURM_PROCID", "mpi": "OMPI_COMM_WORLD_RANK"}.get(launcher, "RANK")
    return os.environ.get(variable, "0") == "0"


def number(text: str, least: int = 0) -> int:
    """A whole number of at least ``least``, as argparse's ``type``."""
    if not text.strip().isdecimal() or int(text) < least:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number of at least {least}")
    return int(text)


count = functools.partial(number, least=1)
"""A whole number of at least 1, as argparse's ``type``."""
