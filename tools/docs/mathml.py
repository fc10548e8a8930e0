"""TeX formulas of Markdown pages as MathML, which browsers draw without any script."""

from __future__ import annotations

import re

_PARTS = re.compile(
    r"(?P<code>^(?P<fence>`{3,}|~{3,}).*?^(?P=fence)[^\S\n]*$|(?P<ticks>`+)(?!`).+?(?<!`)(?P=ticks)(?!`))"
    r"|\$\$(?P<block>.+?)\$\$"
    r"|(?<![\\$\w])\$(?=\S)(?P<inline>[^$\n]+?)(?<=\S)\$(?![\w$])",
    re.MULTILINE | re.DOTALL,
)
_MARKDOWN = str.maketrans({c: f"&#{ord(c)};" for c in "*_`[]\\"})


def with_mathml(text: str) -> str:
    """A Markdown page with ``$...$`` and ``$$...$$`` replaced, code left alone.

    Raises:
        ValueError: naming a formula that is no TeX.
    """
    return _PARTS.sub(_replace, text)


def _replace(match: re.Match[str]) -> str:
    if match["code"]:
        return match.group()
    tex, display = (match["block"], "block") if match["block"] else (match["inline"], "inline")
    tag = "div" if display == "block" else "span"  # Markdown takes a bare <math> at the start of a line for a block
    return f"<{tag}>{_convert(tex, display)}</{tag}>"


def _convert(tex: str, display: str) -> str:
    from latex2mathml.converter import convert  # of the extra `docs`

    try:
        markup = convert(tex.strip(), display=display)
    except Exception as error:  # the package raises its own, all without the formula
        raise ValueError(f"formula {tex.strip()!r}: {type(error).__name__} {error}") from error
    if (unknown := re.search(r">(\\\w+)<", markup)) or tex.count("{") != tex.count("}"):  # the package lets them pass
        raise ValueError(f"formula {tex.strip()!r}: {unknown.group(1) if unknown else 'braces that do not match'}")
    # between tags only, so that Markdown sees no emphasis in them
    return re.sub(r">([^<]+)<", lambda m: f">{m.group(1).translate(_MARKDOWN)}<", markup).replace("\n", " ")
