"""The generated part of the pages of methods, ``docs/methods/*.md``: components, config, parity, numbers, picture.

A page is a method's: its name is the folder of the method's configs. The head is written by hand, up to ``MARK``; what
follows is made from configs, docstrings, docs/*.csv and docs/fidelity_notes.txt. A page that covers several base
configs says so in its head: ``<!-- methods: naclip, naclip_pamr -->``.
"""

from __future__ import annotations

import csv
import inspect
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path

from mmengine.config import Config

from ovseg.datasets.mess import MESS
from ovseg.registry import OWN, SCOPE, find_component
from tools.fidelity_page import BENCHMARKS, miou_table, notes, parity_table, read_rows, remarks

REPOSITORY = Path(__file__).resolve().parents[2]
DOCS, CONFIGS = REPOSITORY / "docs", REPOSITORY / "configs"
PAGES = DOCS / "methods"
INDEX = PAGES / "index.md"
PICTURES = DOCS / "pictures" / "methods"
OVERLAYS = PICTURES / "overlays.csv"
MARK = "<!-- Generated from here on by `python tools/docs_pages.py`; a test compares. Do not edit. -->"
TITLES = dict(BENCHMARKS) | {name: benchmark.title for name, benchmark in MESS.items()}
BASES = ("models", "trained")
"""Folders of ``configs/_base_`` with the base configs of methods."""


def page_names() -> list[str]:
    """Methods that have a page."""
    return sorted(p.stem for p in PAGES.glob("*.md") if p != INDEX)


def head_of(text: str) -> str:
    """The part of a page that is written by hand."""
    return text.partition(MARK)[0].rstrip() + "\n"


def base_configs(name: str, head: str) -> list[Path]:
    """The base configs that a page covers, the main one first.

    Raises:
        ValueError: where there is none.
    """
    listed = re.search(r"<!-- methods: (.+?) -->", head)
    names = [n.strip() for n in listed.group(1).split(",")] if listed else [name]
    known = {path.stem: path for folder in BASES for path in (CONFIGS / "_base_" / folder).glob("*.py")}
    missing = [n for n in names if n not in known]
    if missing:
        raise ValueError(
            f"docs/methods/{name}.md is about {', '.join(names)}, but there is no {missing[0]}.py in "
            f"configs/_base_/{{{','.join(BASES)}}}: call the page as the base config, or name those it covers in its "
            "head: <!-- methods: NAME, NAME -->"
        )
    return [known[n] for n in names]


def page(name: str) -> str:
    """The whole page of a method, its head as it is."""
    head = head_of((PAGES / f"{name}.md").read_text(encoding="utf-8"))
    bases = base_configs(name, head)
    sections = [
        ("On a photo", picture(name)),
        ("Components", component_lines(bases)),
        ("Config", config_lines(name, bases)),
        ("Parity with the official code", parity_lines(name)),
        ("Published numbers", published_lines(name)),
        ("Deviations", [note for method, note in notes() if method == name] or ["None noted."]),
    ]
    lines = [head.rstrip("\n"), "", MARK, ""]
    for title, body in sections:
        if body:
            lines += [f"## {title}", "", *body, ""]
    return "\n".join(lines)


def types_in(config: Mapping, key: str = "") -> Iterator[tuple[str, str]]:
    """Role and type of every component in a model config, in order: ``("attention", "SelfSelfAttention")``."""
    if "type" in config:
        yield key, config["type"]
    for name, value in config.items():
        for part in value if isinstance(value, (list, tuple)) else [value]:
            if isinstance(part, Mapping):
                yield from types_in(part, name)


def component(type_name: str) -> type | None:
    """The class that a config's ``type`` stands for."""
    for registry in OWN:
        found = find_component(type_name, registry)
        if inspect.isclass(found) and found.__module__.startswith(f"{SCOPE}."):
            return found
    return None


def public_path(cls: type) -> str:
    """The shortest name a class can be imported by: its package's if that exports it."""
    package = ".".join(cls.__module__.split(".")[:2])
    module = __import__(package, fromlist=[cls.__name__])
    return f"{package if getattr(module, cls.__name__, None) is cls else cls.__module__}.{cls.__name__}"


def component_lines(bases: list[Path]) -> list[str]:
    """A table of the parts of the base configs' models."""
    lines = ["| role | component | what it is |", "|---|---|---|"]
    seen: set[tuple[str, str]] = set()
    for base in bases:
        for role, name in types_in(Config.fromfile(base).model):
            cls = component(name)
            if cls is None or (role, name) in seen:
                continue
            seen.add((role, name))
            source = Path(inspect.getsourcefile(cls)).resolve().relative_to(REPOSITORY).as_posix()
            linked = f"[`{name}`](../reference/components.md#{public_path(cls)}) ([source](../../{source}))"
            lines.append(f"| {role.replace('_', ' ') or 'model'} | {linked} | {first_sentence(cls)} |")
    return lines


def first_sentence(cls: type) -> str:
    """What a class's docstring says first, as Markdown in a table."""
    text = " ".join((inspect.getdoc(cls) or "").partition("\n\n")[0].split())
    text = re.sub(r":\w+:`~?([^`]+)`", r"`\1`", text).replace("``", "`").replace("|", "\\|")
    return text


def families(name: str) -> dict[str, dict[str, Path]]:
    """Configs of a method: variant (``naclip_pamr_vitb16``) to benchmark to file; without those for training."""
    found: dict[str, dict[str, Path]] = defaultdict(dict)
    for path in sorted((CONFIGS / name).glob("*.py")):
        variant, benchmark = split_name(path.stem)
        if benchmark:
            found[variant][benchmark] = path
    return dict(found)


def split_name(stem: str) -> tuple[str, str]:
    """``naclip_vitb16_coco_stuff`` to ``("naclip_vitb16", "coco_stuff")``; no benchmark: ``(stem, "")``."""
    for benchmark in sorted(TITLES, key=len, reverse=True):
        if stem.endswith(f"_{benchmark}"):
            return stem.removesuffix(f"_{benchmark}"), benchmark
    return stem, ""


def config_lines(name: str, bases: list[Path]) -> list[str]:
    """The base configs as they are, and links to those of the benchmarks."""
    lines = []
    for base in bases:
        relative = base.relative_to(REPOSITORY).as_posix()
        text = base.read_text(encoding="utf-8").strip()
        lines += [f"[`{relative}`](../../{relative}):", "", "```python", text, "```", ""]
    lines += ["What a benchmark changes (words, thresholds, sizes) stands in its own config:", ""]
    for variant, configs in families(name).items():
        links = [
            f"[{TITLES[benchmark]}](../../{configs[benchmark].relative_to(REPOSITORY).as_posix()})"
            for benchmark in TITLES
            if benchmark in configs
        ]
        lines.append(f"- `{variant}`: {', '.join(links)}")
    return lines


def goldens_of(name: str) -> list[dict[str, str]]:
    """Rows of docs/fidelity.csv about a method."""
    from tests.parity.cases import CASES

    return [row for row in read_rows(DOCS / "fidelity.csv") if CASES[row["golden"]].method == name]


def parity_lines(name: str) -> list[str]:
    """The method's rows of the parity table."""
    rows = goldens_of(name)
    if not rows:
        return ["There is no golden of this method's official code."]
    return [
        "Stand-in weights through the official code and through ovseg, fp32; bars and what the columns mean: "
        "[fidelity](../fidelity.md#parity-in-fp32).",
        "",
        *parity_table(rows, "fp32"),
        *(["", *remarks(rows)[:-1]] if remarks(rows) else []),
    ]


def published_lines(name: str) -> list[str]:
    """The method's rows of the table of mIoU."""
    table = miou_table(name)
    if not table:
        return ["None are recorded here."]
    return ["mIoU in percent, of the authors' code and weights; ovseg's own runs are marked *measured*.", "", *table]


def picture(name: str) -> list[str]:
    """The overlay with what was run, from docs/pictures/methods/overlays.csv."""
    rows = [row for row in read_rows(OVERLAYS) if row["method"] == name]
    lines = []
    for row in rows:
        lines += [
            f"![{row['photo']} in the colours of its labels](../pictures/methods/{row['picture']})",
            "",
            f"*{row['protocol']}. Words: {row['words']}. {row['credit']}.* A small embedded model: the picture shows "
            "what the method does with it, not what it does with real weights.",
            "",
        ]
    return lines[:-1]


def index_table() -> list[str]:
    """One row per page, then the methods that have a base config and no page."""
    voc = published_voc21()
    lines = ["| method | guide | regions | besides | parity | VOC21, published |", "|---|---|---|---|---|---|"]
    paged = set()
    for name in page_names():
        text = (PAGES / f"{name}.md").read_text(encoding="utf-8")
        bases = base_configs(name, head_of(text))
        paged.update(base.stem for base in bases)
        models = [Config.fromfile(base).model for base in bases]
        besides = {part["type"] for m in models for key in ("refiners", "label_refiners") for part in m.get(key, ())}
        besides |= {m.photo_encoder.type for m in models if m.get("photo_encoder")}
        cells = [
            f"[{text.splitlines()[0].lstrip('# ')}]({name}.md)",
            described(models[0].get("guide")),
            described(models[0].get("regions")),
            ", ".join(f"`{part}`" for part in sorted(besides)),
            str(len({row["golden"] for row in goldens_of(name)}) or ""),
            voc.get(name, ""),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    lines += [
        "",
        "*parity*: number of goldens of the official code (variants of the method). *VOC21*: range over the variants "
        "in [published_miou.csv](../published_miou.csv), of the authors' code.",
    ]
    lines += ["", *gallery()]
    bare = sorted({p.stem for p in (CONFIGS / "_base_" / "models").glob("*.py")} - paged)
    return lines + (["", f"Without a page: {', '.join(f'`{name}`' for name in bare)}."] if bare else [])


def gallery(columns: int = 3) -> list[str]:
    """The overlays on the same photo side by side, each a link to its method."""
    rows = read_rows(OVERLAYS)
    if not rows:
        return []
    common = Counter(row["photo"] for row in rows).most_common(1)[0][0]
    same = [row for row in rows if row["photo"] == common]
    cells = [f"[![{row['method']}](../pictures/methods/{row['picture']})]({row['method']}.md)" for row in same]
    cells += [""] * (-len(cells) % columns)
    lines = [
        f"The same photo with the embedded `nano-photo` (small: real weights see more). {same[0]['credit']}.",
        "",
        "| " * columns + "|",
        "|---" * columns + "|",
    ]
    for start in range(0, len(cells), columns):
        names = [f"{row['method']}" for row in same[start : start + columns]]
        lines.append(f"| {' | '.join(cells[start : start + columns])} |")
        lines.append(f"| {' | '.join(names + [''] * (columns - len(names)))} |")
    return lines


def described(part: Mapping | None) -> str:
    """A guide or region source in a table cell: type and weights of the innermost."""
    if not part:
        return ""
    inner = part.get("source", part)
    weights = inner.get("weights", "")
    return f"`{inner['type']}`" + (f" {weights}" if weights else "")


def published_voc21() -> dict[str, str]:
    """Method to the range of its published mIoU on VOC21."""
    found: dict[str, list[float]] = defaultdict(list)
    for row in read_rows(DOCS / "published_miou.csv"):
        if row["benchmark"] == "voc21":
            found[row["method"]].append(float(row["miou"]))
    return {m: f"{min(v):.1f}" if len(v) == 1 else f"{min(v):.1f} to {max(v):.1f}" for m, v in found.items()}


def index() -> str:
    """The index of methods, its head as it is."""
    head = head_of(INDEX.read_text(encoding="utf-8"))
    return "\n".join([head.rstrip("\n"), "", MARK, "", *index_table(), ""])


def write_overlay_rows(rows: list[dict[str, str]]) -> None:
    """Replace the rows of these methods in overlays.csv."""
    new = {row["method"] for row in rows}
    kept = [row for row in read_rows(OVERLAYS) if row["method"] not in new]
    with OVERLAYS.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(sorted(kept + rows, key=lambda row: row["method"]))
