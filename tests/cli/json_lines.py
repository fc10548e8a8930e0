"""Runs commands with --json and holds what they print against docs/cli.md."""

import json
import re
from pathlib import Path

from ovseg.cli import main

PAGE = Path(__file__).parents[2] / "docs" / "cli.md"


def documented():
    """``{(command, kind): fields}`` of the table in docs/cli.md."""
    found = {}
    for line in PAGE.read_text(encoding="utf-8").partition("| command | kind | fields |")[2].splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) != 3 or not cells[1].startswith("`"):
            continue
        fields = set(re.findall(r"`(\w+)`", re.sub(r"\([^()]*\)", "", cells[2])))
        for command in re.findall(r"`([\w ]+)`", cells[0]) or [cells[0]]:
            found[command, cells[1].strip("`")] = fields
    return found


def run(capsys, *arguments, command=None, status=0):
    """The lines of a command as objects; each has the documented fields and nothing else is on standard output."""
    assert main([*map(str, arguments), "--json"]) == status
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    table, command = documented(), command or str(arguments[0])
    for line in lines:
        kind = line["kind"]
        fields = table.get((command, kind)) or table["all", kind]
        assert set(line) - {"kind"} == fields, f"{command}: {kind}"
    return lines
