"""Door to ``ovseg masks``: fill the mask cache. See :mod:`ovseg.cli.masks`."""

import sys

from ovseg.cli import door


def main(argv: list[str] | None = None) -> int:
    """The command with the arguments of this script; returns the exit status."""
    return door("masks", argv)


if __name__ == "__main__":
    sys.exit(main())
