"""Door to ``ovseg data prepare``: prepare and check a benchmark. See :mod:`ovseg.cli.data`."""

import sys

from ovseg.cli import door


def main(argv: list[str] | None = None) -> int:
    """The command with the arguments of this script; returns the exit status."""
    return door("data", ["prepare", *(sys.argv[1:] if argv is None else argv)])


if __name__ == "__main__":
    sys.exit(main())
