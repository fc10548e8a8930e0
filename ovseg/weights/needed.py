"""All files that a model needs, so that whoever has no network learns of them at once and not one by one."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from .catalogue import WeightCard, catalogue
from .errors import WeightsNotFound
from .resolve import file_facts, find_local

LAZY = ("CachedRegions",)
"""Components that build their ``source`` only when something is not in their cache."""


@dataclass(frozen=True)
class Need:
    """Weights that a part of a model is built from.

    Attributes:
        component: its class, e.g. ``ClipBackbone``.
        card: the entry of the catalogue.
    """

    component: str
    card: WeightCard

    @property
    def is_here(self) -> bool:
        """Whether the file is on this machine."""
        return find_local(self.card) is not None


def needs_of(config: object, lazily: bool = False) -> list[Need]:
    """What the parts of a model are built from, in the order of the config, each once.

    Asked of the classes: one that reads weights names the argument in its attribute ``weights_argument``, or, where it
    reads several, each argument with that of the file that may stand in the place of the catalogue's. Parts with a
    ``checkpoint`` of their own need nothing else.

    Args:
        config: of a model or of parts of it.
        lazily: leave out what is built only when something is not in a cache (the source of ``CachedRegions``).
    """
    found = {}
    for component, name in _walk(config, lazily):
        card = catalogue().get(name)
        if card is not None:
            found.setdefault(card.name, Need(component, card))
    return list(found.values())


def missing_message(needs: Iterable[Need], reason: str) -> str:
    """Everything about the files that are missing: for what, where from, size, licence, where to put them."""
    needs = list(needs)
    count = "one file is" if len(needs) == 1 else f"{len(needs)} files are"
    parts = [f"{count} missing ({reason}):"]
    parts += [f"{need.card.name} for {need.component}\n{file_facts(need.card)}" for need in needs]
    names = " ".join(need.card.name for need in needs)
    parts.append(
        f"On a machine with a network `ovseg weights fetch {names}` gets them all; copy its folder, or give "
        "each path as the part's checkpoint. $OVSEG_CACHE moves the folder."
    )
    return "\n".join(parts)


@contextmanager
def told_together(*configs: object) -> Iterator[None]:
    """Parts are built inside; where the weights of one are not to be had, the error names those of all.

    Raises:
        WeightsNotFound: with the message of :func:`missing_message`.
    """
    try:
        yield
    except WeightsNotFound as error:
        missing = [need for need in needs_of(configs, lazily=True) if not need.is_here]
        if len(missing) < 2:
            raise
        reason = str(error).splitlines()[0].partition("could not be had: ")[2].rstrip(".") or "not on this machine"
        raise WeightsNotFound(missing_message(missing, reason)) from None


def _walk(config: object, lazily: bool) -> Iterator[tuple[str, str]]:
    if isinstance(config, Mapping):
        component = _component(config.get("type"))
        arguments = getattr(component, "weights_argument", None) or {}
        for argument, file in ({arguments: "checkpoint"} if isinstance(arguments, str) else arguments).items():
            name = config.get(argument, inspect.signature(component).parameters[argument].default)
            if config.get(file) is None and isinstance(name, str):
                yield component.__name__, name
        for key, value in config.items():
            if not (lazily and key == "source" and getattr(component, "__name__", "") in LAZY):
                yield from _walk(value, lazily)
    elif isinstance(config, list | tuple):
        for part in config:
            yield from _walk(part, lazily)


def _component(kind: object) -> type | None:
    from ovseg.registry import OWN  # its components read weights: they are looked up, not imported

    if isinstance(kind, type):
        return kind
    if not isinstance(kind, str):
        return None
    for registry in OWN:
        registry.import_from_location()
        if kind in registry.module_dict:
            found = registry.module_dict[kind]
            return found if isinstance(found, type) else None
    return None
