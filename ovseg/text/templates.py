"""Prompt templates: the sentences a class name is put into before it is encoded.

Averaging the embeddings of many sentences per name is CLIP's prompt ensembling (Radford et al. 2021, section 3.1.4).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field

from open_clip import OPENAI_IMAGENET_TEMPLATES, SIMPLE_IMAGENET_TEMPLATES


@dataclass(frozen=True)
class Templates:
    """An ordered set of prompt templates.

    Attributes:
        texts: sentences with ``{}`` where the class name goes.
        name: name of the set, ``'custom'`` for a user's own; no part of equality or of the hash.
    """

    texts: tuple[str, ...]
    name: str = field(default="custom", compare=False)

    def __post_init__(self) -> None:
        if not self.texts:
            raise ValueError("a template set needs at least one template; use ['{}'] for the bare name")
        for text in self.texts:
            if not isinstance(text, str) or text.count("{}") != 1:
                raise ValueError(f"template {text!r} must be a string with exactly one '{{}}' for the class name")

    def __len__(self) -> int:
        return len(self.texts)

    def prompts(self, query: str) -> list[str]:
        """One prompt per template for the class name ``query``; braces in the name are kept as they are."""
        return [text.replace("{}", query) for text in self.texts]

    @property
    def content_hash(self) -> str:
        """SHA-256 (hex) over the templates in their order."""
        return hashlib.sha256(json.dumps(self.texts).encode()).hexdigest()


# open_clip keeps its templates as functions of the name; calling them with "{}" gives the text back.
_VILD_PLACES = ("a photo of a {} {{}}.", "This is a photo of a {} {{}}.", "There is a {} {{}} in the scene.")
_VILD = (
    "a photo of a {}.",
    "This is a photo of a {}",
    "There is a {} in the scene",
    "There is the {} in the scene",
    "a photo of a {} in the scene",
    *(place.format(size) for place in _VILD_PLACES for size in ("small", "medium", "large")),
)
TEMPLATE_SETS = {
    templates.name: templates
    for templates in (
        Templates(tuple(fill("{}") for fill in OPENAI_IMAGENET_TEMPLATES), "openai_80"),
        Templates(tuple(fill("{}") for fill in SIMPLE_IMAGENET_TEMPLATES), "simple"),
        Templates(
            tuple(fill("{}").replace("bad photo of the", "bad photo of a") for fill in SIMPLE_IMAGENET_TEMPLATES),
            "talk2dino",
        ),
        Templates(("a photo of a {}.",), "photo"),
        Templates(("A photo of a {} in the scene",), "scene"),
        Templates(("{}",), "plain"),
        Templates(_VILD, "vild"),
    )
}


def get_templates(templates: str | Sequence[str] | Templates) -> Templates:
    """A template set by name, or from a list of one's own.

    Args:
        templates: ``'openai_80'`` (CLIP's 80 ImageNet templates), ``'simple'`` (CLIP's 7 best of them),
            ``'talk2dino'`` (these with "a bad photo of a {}."), ``'photo'``
            ("a photo of a {}."), ``'scene'`` (CAT-Seg's "A photo of a {} in the scene"), ``'plain'`` (the bare name),
            ``'vild'`` (ViLD's 14, without its rule for articles: SAN, FC-CLIP, MAFT+, OVSeg), a list of sentences with
            ``{}``, or a :class:`Templates`, which is returned as it is.

    Raises:
        ValueError: unknown name, empty list, or a template without exactly one ``{}``.
    """
    if isinstance(templates, Templates):
        return templates
    if not isinstance(templates, str):
        return Templates(tuple(templates))
    if templates not in TEMPLATE_SETS:
        raise ValueError(
            f"unknown template set {templates!r}; known are {sorted(TEMPLATE_SETS)}, "
            "or give a list of sentences with '{}'"
        )
    return TEMPLATE_SETS[templates]
