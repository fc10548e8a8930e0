"""Door to ``ovseg segment``: segment photos with your own words. See :mod:`ovseg.cli.segment`."""

import sys

from ovseg.cli import door


def main(argv: list[str] | None = None) -> int:
    """The command with the arguments of this script; returns the exit status."""
    return door("segment", argv)


if __name__ == "__main__":
    sys.exit(main())
