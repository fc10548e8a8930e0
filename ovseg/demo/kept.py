"""Things that are kept while there is room."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable


class Kept:
    """The latest things by name, as many as fit into some bytes; thread-safe.

    Args:
        size: bytes.
        measure: bytes of a thing.
    """

    def __init__(self, size: int, measure: Callable[[object], int]) -> None:
        self.size, self.measure = size, measure
        self._things: OrderedDict[object, object] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, name: object) -> object | None:
        """The thing of that name; ``None``: it is not kept (any more)."""
        with self._lock:
            if name in self._things:
                self._things.move_to_end(name)
            return self._things.get(name)

    def put(self, name: object, thing: object) -> None:
        """Keep a thing, and drop those unused for longest until all fit; the newest stays in any case."""
        with self._lock:
            self._things[name] = thing
            self._things.move_to_end(name)
            while len(self._things) > 1 and sum(map(self.measure, self._things.values())) > self.size:
                self._things.popitem(last=False)
