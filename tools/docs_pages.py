"""Write the generated pages of docs/: methods, their index, the model zoo, the reference of components.

    python tools/docs_pages.py                      # after a change of configs, docstrings, the catalogue or docs/*.csv
    python tools/docs_pages.py --new cat_seg        # a page for a method that has none, to be filled in
    python tools/docs_pages.py --overlays           # run every method on a shipped photo first (minutes); or: NAME ...

The heads of the pages of methods are written by hand and stay; see tools/docs/methods.py.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY))

from tools.docs import components, methods, zoo  # noqa: E402

HEAD = """# {name}

AUTHORS, *TITLE*, VENUE YEAR: [arXiv NUMBER](https://arxiv.org/abs/NUMBER)

The idea in a few sentences.

$$z = O(A v)$$
"""


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--new", metavar="METHOD", help="start a page for this method (its base config's name)")
    parser.add_argument("--overlays", nargs="*", metavar="METHOD", help="make these overlays anew (none named: all)")
    return parser.parse_args(argv)


def pages() -> dict[Path, str]:
    """All generated pages: file to text."""
    found = {methods.PAGES / f"{name}.md": methods.page(name) for name in methods.page_names()}
    found[methods.INDEX] = methods.index()
    found[methods.DOCS / "zoo.md"] = zoo.page()
    found[methods.DOCS / "reference" / "components.md"] = components.page()
    return found


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    if args.new:
        path = methods.PAGES / f"{args.new}.md"
        if path.exists():
            print(f"error: there is {path} already", file=sys.stderr)
            return 2
        methods.base_configs(args.new, "")
        path.write_text(HEAD.format(name=args.new), encoding="utf-8")
    if args.overlays is not None:
        from tools.docs.overlays import make

        make(args.overlays or methods.page_names())
    for path, text in pages().items():
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
            print(f"wrote {path.relative_to(REPOSITORY)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
