"""``python -m ovseg``."""

import sys

from ovseg.cli import main

if __name__ == "__main__":
    sys.exit(main())
