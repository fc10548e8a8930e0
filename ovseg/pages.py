"""Parts of HTML pages that stand alone: one file, no scripts of others, nothing fetched from anywhere."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Iterable, Sequence

import numpy as np
from PIL import Image

_STYLE = """
:root {--ink: #1d2126; --soft: #5d6670; --line: #d9dee3; --paper: #fff; --tint: #f3f5f7; --good: #1a7f4b;
  --bad: #b42318; --open: #7a5a00; --bar: #3b74b8; --bar2: #b9cbe2}
* {box-sizing: border-box}
body {margin: 0; padding: 24px clamp(12px, 4vw, 48px) 64px; background: var(--paper); color: var(--ink);
  font: 15px/1.5 system-ui, sans-serif}
h1 {font-size: 24px; margin: 0 0 4px} h2 {font-size: 18px; margin: 36px 0 8px} h3 {font-size: 15px; margin: 20px 0 6px}
p {margin: 6px 0; max-width: 78ch} .soft {color: var(--soft)} .small {font-size: 13px}
table {border-collapse: collapse; margin: 8px 0} th, td {padding: 5px 10px; border-bottom: 1px solid var(--line);
  text-align: right; vertical-align: top; font-variant-numeric: tabular-nums}
th {font-weight: 600; background: var(--tint)} th:first-child, td:first-child, .text {text-align: left}
.wide {overflow-x: auto} .good {color: var(--good)} .bad {color: var(--bad)} .open {color: var(--open)}
.big {font-size: 17px; font-weight: 600} code {font-size: 12px; color: var(--soft); overflow-wrap: anywhere}
td code {white-space: nowrap} td .small {display: inline-block; max-width: 40ch}
figure {margin: 10px 0} figure img {max-width: 100%; height: auto; display: block; border: 1px solid var(--line)}
figcaption {color: var(--soft); font-size: 13px; overflow-wrap: anywhere}
.tiles {display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 560px), 1fr)); gap: 12px 24px}
.cards {display: flex; flex-wrap: wrap; gap: 12px; margin: 14px 0}
.card {border: 1px solid var(--line); border-radius: 6px; padding: 8px 14px; min-width: 108px}
.card b {display: block; font-size: 20px} .card span {color: var(--soft); font-size: 13px}
svg text {font: 12px system-ui, sans-serif; fill: var(--ink)} svg .soft {fill: var(--soft)}
details {margin: 6px 0} summary {cursor: pointer}
"""


def text(value: object) -> str:
    """A value as text that is no markup; what no encoding has (half a surrogate pair, from JSON) as its code."""
    return html.escape(str(value).encode("utf-8", "backslashreplace").decode())


def page(title: str, body: Iterable[str]) -> str:
    """A whole page; ``body`` is markup, ``title`` text."""
    head = f'<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{text(title)}</title>'
    return f'<!doctype html>\n<html lang="en"><head>{head}<style>{_STYLE}</style></head>\n<body>\n' + "\n".join(
        [*body, "</body></html>\n"]
    )


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of markup: ``head`` and cells are not escaped."""
    lines = ["<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows]
    top = "<tr>" + "".join(f"<th>{cell}</th>" for cell in head) + "</tr>"
    return f'<div class="wide"><table><thead>{top}</thead><tbody>{"".join(lines)}</tbody></table></div>'


def cards(facts: Iterable[tuple[str, str]]) -> str:
    """``(what, value)`` as a row of cards; both are text."""
    found = (f'<div class="card"><b>{text(value)}</b><span>{text(what)}</span></div>' for what, value in facts)
    return f'<div class="cards">{"".join(found)}</div>'


def picture(pixels: np.ndarray, caption: str, max_width: int = 1200, quality: int = 82) -> str:
    """A figure that holds its picture.

    Args:
        pixels: uint8 RGB ``[H, W, 3]``.
        caption: text below it.
        max_width: wider pictures are made smaller, in pixels.
        quality: of the JPEG.
    """
    image = Image.fromarray(pixels)
    image.thumbnail((max_width, 1 << 16))
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return jpeg(file.getvalue(), caption)


def jpeg(data: bytes, caption: str) -> str:
    """A figure that holds the picture of a JPEG file, as it is; ``caption``: text below it."""
    with Image.open(io.BytesIO(data)) as image:
        size = f'width="{image.width}" height="{image.height}"'
    source = f"data:image/jpeg;base64,{base64.b64encode(data).decode()}"
    return (
        f'<figure><img {size} src="{source}" alt="{text(caption)}" loading="lazy">'
        f"<figcaption>{text(caption)}</figcaption></figure>"
    )
