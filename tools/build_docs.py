"""Build the web site of docs/ with Zensical, strictly: any warning is an error.

    pip install -c constraints.txt -e ".[docs]"
    python tools/build_docs.py                      # into site/, then: python -m http.server -d site
    python tools/build_docs.py --out /tmp/site --home https://github.com/OWNER/ovseg

Exit status: 0 built; 1 warnings, which are printed; 2 the extra `docs` is not installed.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import sys
import tempfile
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY))
NEEDED = ("zensical", "mkdocstrings", "latex2mathml")


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=REPOSITORY / "site", help="folder of the site (default: site)")
    parser.add_argument(
        "--home",
        default=os.environ.get("OVSEG_HOME_URL", ""),
        help="address of the repository, for links to its files (default: $OVSEG_HOME_URL)",
    )
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        print(f'error: {", ".join(missing)} missing: pip install -c constraints.txt -e ".[docs]"', file=sys.stderr)
        return 2
    from tools.docs.site import build

    with tempfile.TemporaryDirectory() as folder:
        faults = build(Path(folder), args.out.resolve(), args.home)
    for fault in faults:
        print(fault, file=sys.stderr)
    if not faults:
        print(f"the site is in {args.out}")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
