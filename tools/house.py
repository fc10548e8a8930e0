"""The plan of the house in figures: how many imports lead from room to room, and in how many circles.

    python tools/house.py                # this checkout
    python tools/house.py ../older       # another one

A room is a folder or a module directly under ``ovseg``. Counted are module-to-module imports across rooms, those inside
functions and under TYPE_CHECKING included. Needs grimp (``pip install import-linter``, part of ``ovseg[test]``).
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import grimp
import networkx


def room(module: str) -> str:
    """``'backbones'`` of ``'ovseg.backbones.clip'``; empty for the package itself."""
    return module.partition(".")[2].partition(".")[0]


def plan(package: str = "ovseg") -> dict[str, object]:
    """Figures of the importable package: modules, rooms, imports between rooms, pairs of rooms, circles."""
    graph = grimp.build_graph(package, exclude_type_checking_imports=False, cache_dir=None)
    edges = [(m, n) for m in graph.modules for n in graph.find_modules_directly_imported_by(m) if room(m) != room(n)]
    pairs = sorted({(room(m), room(n)) for m, n in edges if room(m) and room(n)})
    circles = list(networkx.simple_cycles(networkx.DiGraph(pairs)))
    return {
        "modules": len(graph.modules),
        "rooms": len({room(module) for module in graph.modules} - {""}),
        "imports between rooms": len(edges),
        "pairs of rooms": len(pairs),
        "circles": len(circles),
        "rooms in circles": sorted({name for circle in circles for name in circle}),
    }


def main(argv: list[str] | None = None) -> int:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tree", nargs="?", type=Path, default=Path(__file__).resolve().parent.parent)
    tree = parser.parse_args(argv).tree
    if not (tree / "ovseg").is_dir():
        parser.error(f"{tree} has no folder ovseg: give the root of a checkout")
    sys.path.insert(0, str(tree))
    for name, figure in plan().items():
        print(f"{name:22} {', '.join(figure) or '-' if isinstance(figure, list) else figure}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
