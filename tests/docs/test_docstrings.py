"""What the site's parser (griffe, Google style) wants of docstrings, checked without the extra ``docs``."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
SECTION = re.compile(r"(\s*)(Args|Raises|Attributes):")


def faults(text: str) -> list[str]:
    """Lines that stand where an entry of a section should begin, and begin none (``names: description``)."""
    found, start = [], None
    for line in text.splitlines():
        indent = len(line) - len(line.lstrip())
        if section := SECTION.fullmatch(line):
            start = len(section.group(1)) + 4
        elif line.strip() and start is not None:
            if indent < start:
                start = None
            elif indent == start and not re.match(r"[^:]+:(\s|$)", line.strip()):
                found.append(line.strip())
    return found


def test_an_entry_over_two_lines_is_found():
    assert faults("Say.\n\n    Args:\n        a, b,\n            c: both.\n        d: one.\n\n    End.") == ["a, b,"]


def test_every_entry_of_a_section_is_one_to_the_parser():
    for path in sorted((ROOT / "ovseg").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
                wrong = faults(ast.get_docstring(node) or "")
                assert not wrong, f"{path.relative_to(ROOT)}: {getattr(node, 'name', 'module')}: {wrong}"
