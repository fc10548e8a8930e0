"""Methods and weights that are on this machine, and the models in memory."""

from __future__ import annotations

import inspect
import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from ovseg.apis import Segmenter, available_methods, method_config
from ovseg.demo.kept import Kept
from ovseg.demo.limits import Refused
from ovseg.encoded import EncodedImage
from ovseg.errors import SetupError
from ovseg.weights import WeightsError, catalogue
from ovseg.weights.resolve import find_local

Choice = tuple[str, str]
"""Method and weights, by name."""


def default_choice() -> Choice:
    """What :class:`ovseg.Segmenter` uses where nothing is named."""
    defaults = inspect.signature(Segmenter).parameters
    return defaults["method"].default, defaults["weights"].default


def weights_here() -> list[str]:
    """CLIP weights of the catalogue whose file is on this machine."""
    return [card.name for card in catalogue().values() if card.kind == "clip" and find_local(card) is not None]


def methods_here(weights: str) -> list[str]:
    """Methods that run with these weights without a download: guides, SAM and heads are on this machine too."""
    cards = catalogue()
    found = []
    for method in available_methods():
        try:
            model = method_config(method, weights).model
        except SetupError:  # trained between two other models (Talk2DINO)
            continue
        needed = (cards[name] for name in _texts(model) if name in cards)
        if all(find_local(card) is not None for card in needed):
            found.append(method)
    return found


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for part in value.values():
            yield from _texts(part)
    elif isinstance(value, Sequence):
        for part in value:
            yield from _texts(part)


@dataclass(frozen=True)
class Loaded:
    """A model in memory.

    Attributes:
        segmenter: the model.
        encoded: photos that it has encoded, by the hash of their file; they go when the model goes.
        lock: held by the one question that it answers.
    """

    segmenter: Segmenter
    encoded: Kept
    lock: threading.Lock = field(default_factory=threading.Lock)


class Models:
    """Models by method and weights: loaded when first asked for, the latest few kept.

    Args:
        keep: models in memory at the same time.
        device: see :class:`ovseg.Segmenter`.
        memory: bytes of encoded photos per model.
    """

    def __init__(self, keep: int = 3, device: str | None = None, memory: int = 300_000_000) -> None:
        self.keep, self.device, self.memory = keep, device, memory
        self.choices = {weights: methods_here(weights) for weights in weights_here()}
        self._models: OrderedDict[Choice, Loaded] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, choice: Choice) -> Loaded:
        """The model of a choice.

        Raises:
            Refused: for a choice that is not offered here, or a model that cannot be built.
        """
        method, weights = choice
        if method not in self.choices.get(weights, ()):
            raise Refused(f"{method} with {weights} is not on this machine; choose another method or other weights.")
        with self._lock:
            if choice not in self._models:
                try:
                    segmenter = Segmenter(weights, method, device=self.device)
                except (SetupError, ValueError, WeightsError, ImportError) as error:
                    raise Refused(f"{method} with {weights} cannot be loaded: {error}.") from error
                self._models[choice] = Loaded(segmenter, Kept(self.memory, _bytes))
            self._models.move_to_end(choice)
            while len(self._models) > self.keep:
                self._models.popitem(last=False)
            return self._models[choice]


def _bytes(encoded: EncodedImage) -> int:
    height, width = encoded.size
    return encoded.nbytes + 3 * height * width
