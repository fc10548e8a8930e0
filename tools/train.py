"""Door to ``ovseg train``: train from a config. See :mod:`ovseg.cli.train`."""

import sys

from ovseg.cli import door


def main(argv: list[str] | None = None) -> int:
    """The command with the arguments of this script; returns the exit status."""
    return door("train", argv)


if __name__ == "__main__":
    sys.exit(main())
