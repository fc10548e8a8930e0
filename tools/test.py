"""Door to ``ovseg eval``: evaluate a method on a benchmark. See :mod:`ovseg.cli.eval`."""

import sys

from ovseg.cli import door


def main(argv: list[str] | None = None) -> int:
    """The command with the arguments of this script; returns the exit status."""
    return door("eval", argv)


if __name__ == "__main__":
    sys.exit(main())
