"""Whether a file is what its name in the catalogue says, as far as anybody can tell.

Two CLIPs of one architecture have the same keys and shapes, and nothing in a state dict says which activation it was
trained with: OpenAI's weights under LAION's name load without an error and give other numbers. What can be known is
compared: the publishers' hashes, the place a hub keeps a file at, what OpenAI alone saves, the configuration beside.
"""

from __future__ import annotations

import json
import re
import warnings
from pathlib import Path

from .catalogue import WeightCard, catalogue, get_card
from .errors import CheckpointError
from .hashes import cache_dir, file_sha256

_CONFIGS = {"config.json": ("vision_config", "text_config"), "open_clip_config.json": ("model_cfg",)}
# Names of files that lie in a folder of their own, so that the configuration beside them is theirs.
_ALONE = re.compile(r"(model|pytorch_model|open_clip_\w+)\.(safetensors|bin)")


def check_identity(name: str, path: Path) -> None:
    """Compares a file with all that is published under other names.

    Raises:
        CheckpointError: The file is known, or lies where it is known, as another entry of the catalogue; or the
            configuration beside it states another activation.
    """
    card = get_card(name)
    owner = owner_by_place(path) or owner_by_hash(path)
    if owner and card.name not in owner:
        others = " or ".join(owner)
        raise CheckpointError(
            path, f"is published as {others}, and was to be read as {card.name}", f"Load it under the name {owner[0]}"
        )
    stated = _stated_quickgelu(path) if card.kind == "clip" else None
    if stated is not None and stated != card.quickgelu:
        raise CheckpointError(
            path,
            f"the configuration beside it states {_activation(stated)}, {card.name} computes with "
            f"{_activation(card.quickgelu)}",
            "Load it under the name it belongs to (`ovseg weights list`)",
        )


def check_openai_layout(card: WeightCard, path: Path) -> None:
    """To be called for a file of OpenAI's layout, whose weights want QuickGELU.

    The layout alone is no proof (anybody can write it, and the known files are refused by their hashes), so it is told.

    Warns:
        UserWarning: The entry computes with GELU, or is another publisher's.
    """
    layout = f"{path} has OpenAI's layout (input_resolution, context_length, vocab_size beside the weights)"
    if not card.quickgelu:
        warnings.warn(
            f"{layout}, so it was probably trained with QuickGELU; {card.name} computes with GELU, which gives other "
            "numbers. If it is OpenAI's, load it under the name it belongs to, e.g. openai/ViT-B-16",
            stacklevel=4,
        )
    elif not card.name.startswith("openai/") and card.family != get_card("openai/ViT-B-16").family:
        warnings.warn(
            f"{layout} and is read as {card.name}: if it is OpenAI's, results will stand under the wrong name",
            stacklevel=4,
        )


def owner_by_hash(path: Path) -> list[str]:
    """Entries whose publisher states the hash of this file."""
    stated = {card.name: [source.sha256 for source in card.sources if source.sha256] for card in catalogue().values()}
    digest = file_sha256(path)
    return [name for name, hashes in stated.items() if any(digest.startswith(known) for known in hashes)]


def owner_by_place(path: Path) -> list[str]:
    """Entries that a file belongs to by where it lies: a repository in the hub's cache, a name in ovseg's."""
    for part in path.expanduser().parts:
        if part.startswith("models--"):
            repo = part.removeprefix("models--").replace("--", "/")
            return [card.name for card in catalogue().values() if repo in [s.hub_repo for s in card.sources]]
    try:
        inside = path.expanduser().resolve().relative_to(cache_dir().resolve())
    except (ValueError, OSError, RuntimeError):  # elsewhere; a loop of links
        return []
    name = str(inside.with_suffix("").as_posix()) if inside.parts else ""
    return [name] if name in catalogue() else []


def _stated_quickgelu(path: Path) -> bool | None:
    """Whether the configuration beside a file asks for QuickGELU; None where it says nothing."""
    if not _ALONE.fullmatch(path.name):
        return None
    for name, sections in _CONFIGS.items():
        try:
            config = json.loads((path.parent / name).read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            continue
        parts = [config[s] for s in sections if isinstance(config, dict) and isinstance(config.get(s), dict)]
        if name == "open_clip_config.json" and parts:
            return bool(parts[0].get("quick_gelu", False))
        activations = {part["hidden_act"] for part in parts if isinstance(part.get("hidden_act"), str)}
        if activations and activations <= {"gelu", "quick_gelu"}:
            return activations == {"quick_gelu"}
    return None


def _activation(quickgelu: bool) -> str:
    return "QuickGELU" if quickgelu else "GELU"
