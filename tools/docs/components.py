"""``docs/reference/components.md``: every registered part with its documentation, for mkdocstrings."""

from __future__ import annotations

import inspect

from ovseg import registry
from ovseg.registry import SCOPE, ComponentRegistry
from tools.docs.methods import MARK, public_path

ROLES = (
    ("Segmentors", registry.MODELS),
    ("Backbones", registry.BACKBONES),
    ("Attentions", registry.ATTENTIONS),
    ("Guides", registry.GUIDES),
    ("Regions", registry.REGIONS),
    ("Region encoders", registry.REGION_ENCODERS),
    ("Views", registry.VIEWS),
    ("Stitches", registry.STITCHES),
    ("Refiners", registry.REFINERS),
    ("Heads", registry.HEADS),
    ("Decoders", registry.DECODERS),
    ("Framings", registry.FRAMINGS),
    ("Losses", registry.LOSSES),
    ("Data sets", registry.DATASETS),
    ("Transforms", registry.TRANSFORMS),
    ("Metrics", registry.METRICS),
)
FUNCTIONS = {"Attentions": ("ovseg.attention.LastBlockAttention", "ovseg.attention.decompose")}
"""What is documented beside a role's classes: what one's own part starts from."""


def classes_of(parts: ComponentRegistry) -> list[type]:
    """Classes of ovseg in a registry, by name."""
    parts.import_from_location()
    found = {cls for cls in parts.module_dict.values() if inspect.isclass(cls)}
    return sorted((c for c in found if c.__module__.startswith(f"{SCOPE}.")), key=lambda c: c.__name__)


def page() -> str:
    """The page."""
    lines = [
        "# Components",
        "",
        MARK.replace("from here on ", ""),
        "",
        "What a config can name as `type`, with its arguments. Each role has a registry in `ovseg.registry`; how to",
        "add a part of your own: [extending](../extending.md).",
        "",
    ]
    seen: set[type] = set()
    for title, parts in ROLES:
        names = [*FUNCTIONS.get(title, ()), *(public_path(c) for c in classes_of(parts) if c not in seen)]
        seen.update(classes_of(parts))
        if names:
            lines += [f"## {title}", ""]
        for name in names:
            lines += [f"::: {name}", "    options:", "      heading_level: 3", ""]
    return "\n".join(lines)
