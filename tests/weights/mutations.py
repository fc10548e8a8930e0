"""Damage to checkpoint files."""

from __future__ import annotations

import random


def mutated(content: bytes, rng: random.Random) -> bytes:
    """One of: bits flipped, cut, a piece doubled, removed, overwritten with noise, zeros or another place's bytes."""
    data = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 5))):
        # the ends, where headers and directories are, as often as the middle
        edge = min(len(data), 4096)
        start = rng.choice((rng.randrange(edge), len(data) - 1 - rng.randrange(edge), rng.randrange(len(data))))
        length = rng.choice((1, 2, 4, 8, 100, 5000))
        kind = rng.randrange(7)
        if kind == 0:
            data[start] ^= 1 << rng.randrange(8)
        elif kind == 1:
            del data[start:]
        elif kind == 2:
            data[start:start] = data[start : start + length]
        elif kind == 3:
            del data[start : start + length]
        elif kind == 4:
            data[start : start + length] = rng.randbytes(length)
        elif kind == 5:
            data[start : start + length] = rng.choice((b"\0", b"\xff")) * length
        else:
            other = rng.randrange(len(data))
            data[start : start + length] = data[other : other + length]
        if not data:
            data = bytearray(b"\0")
    return bytes(data)
