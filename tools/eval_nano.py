"""Door to ``ovseg nano``: every method with the embedded nano model. See :mod:`ovseg.cli.nano`."""

import sys

from ovseg.cli import door


def main(argv: list[str] | None = None) -> int:
    """The command with the arguments of this script; returns the exit status."""
    return door("nano", argv)


if __name__ == "__main__":
    sys.exit(main())
