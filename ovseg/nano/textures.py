"""Procedural backgrounds of the scenes: eight named textures and one unnamed family of plain ones.

Every texture is a pure function of ``(name, seed, size)``, so that the benchmark can be drawn again byte for byte.
Training and benchmark use disjoint seeds (see :mod:`ovseg.nano.compose`).
"""

from collections.abc import Callable

import cv2
import numpy as np

Size = tuple[int, int]


def _noise(rng: np.random.Generator, size: Size, cell_y: float, cell_x: float | None = None) -> np.ndarray:
    """Smooth noise in [0, 1], float32 ``[h, w]``: random values on a grid of ``cell`` pixels, interpolated."""
    height, width = size
    cell_x = cell_y if cell_x is None else cell_x
    grid = rng.random((max(2, round(height / cell_y) + 1), max(2, round(width / cell_x) + 1)), dtype=np.float32)
    interpolation = cv2.INTER_CUBIC if min(cell_y, cell_x) > 2 else cv2.INTER_LINEAR
    return cv2.resize(grid, (width, height), interpolation=interpolation).clip(0, 1)


def _fractal(rng: np.random.Generator, size: Size, cell: float, octaves: int = 4) -> np.ndarray:
    """Sum of noises of halving cell size and weight, stretched to [0, 1], float32 ``[h, w]``."""
    total = sum(_noise(rng, size, max(1.5, cell / 2**i)) / 2**i for i in range(octaves))
    return (total - total.min()) / (np.ptp(total) + 1e-6)


def _mix(low: np.ndarray, high: np.ndarray, amount: np.ndarray) -> np.ndarray:
    """Colour ramp from ``low`` to ``high`` (RGB, 0..255) by ``amount`` ``[h, w]`` -> float32 ``[h, w, 3]``."""
    return low + (high - low) * amount[..., None]


def _colour(rng: np.random.Generator, red: float, green: float, blue: float, spread: float = 18) -> np.ndarray:
    return np.array([red, green, blue], dtype=np.float32) + rng.normal(0, spread, 3).astype(np.float32)


def _grass(rng: np.random.Generator, size: Size) -> np.ndarray:
    blades = _noise(rng, size, rng.uniform(6, 12), rng.uniform(1.5, 2.5))
    clumps = _fractal(rng, size, rng.uniform(24, 60))
    return _mix(_colour(rng, 35, 85, 22, 10), _colour(rng, 125, 185, 60, 14), 0.65 * blades + 0.35 * clumps)


def _brick_wall(rng: np.random.Generator, size: Size) -> np.ndarray:
    height, width = size
    brick_h = int(rng.integers(9, 20))
    brick_w = int(brick_h * rng.uniform(1.8, 2.6))
    joint = max(2, brick_h // 7)
    y, x = np.mgrid[0:height, 0:width]
    row = y // brick_h
    shifted = x + (row % 2) * (brick_w // 2)
    column = shifted // brick_w
    tone = rng.random((height // brick_h + 1, width // brick_w + 2), dtype=np.float32)[row, column]
    tone = 0.7 * tone + 0.3 * _noise(rng, size, 2)
    image = _mix(_colour(rng, 130, 50, 35), _colour(rng, 195, 100, 75), tone)
    is_joint = (y % brick_h < joint) | (shifted % brick_w < joint)
    image[is_joint] = _colour(rng, 190, 180, 170, 14)
    return image


def _sand(rng: np.random.Generator, size: Size) -> np.ndarray:
    y, x = np.mgrid[0 : size[0], 0 : size[1]].astype(np.float32)
    bend = _fractal(rng, size, 60) * rng.uniform(4, 12)
    ripples = 0.5 + 0.5 * np.sin((y + 0.3 * x) / rng.uniform(3, 7) + bend)
    amount = 0.45 * ripples + 0.3 * _noise(rng, size, 1.5) + 0.25 * _fractal(rng, size, 50)
    return _mix(_colour(rng, 185, 150, 95, 12), _colour(rng, 238, 212, 160, 10), amount)


def _water(rng: np.random.Generator, size: Size) -> np.ndarray:
    waves = _noise(rng, size, rng.uniform(3, 7), rng.uniform(14, 36))
    crests = np.clip((_noise(rng, size, rng.uniform(3, 6), rng.uniform(10, 24)) - 0.7) * 3, 0, 1)
    image = _mix(_colour(rng, 8, 60, 110, 12), _colour(rng, 45, 135, 180, 14), waves)
    return image + crests[..., None] * 80


def _wood(rng: np.random.Generator, size: Size) -> np.ndarray:
    plank = int(rng.integers(22, 52))
    y = np.arange(size[0])
    grain = _noise(rng, size, rng.uniform(1.8, 3), rng.uniform(40, 90))
    tone = rng.random(size[0] // plank + 1, dtype=np.float32)[y // plank][:, None]
    image = _mix(_colour(rng, 95, 58, 28, 12), _colour(rng, 180, 125, 75, 14), 0.6 * grain + 0.4 * tone)
    image[y % plank < 2] *= 0.45
    return image


def _sky(rng: np.random.Generator, size: Size) -> np.ndarray:
    height = size[0]
    ramp = np.broadcast_to(np.linspace(0, 1, height, dtype=np.float32)[:, None], size)
    image = _mix(_colour(rng, 70, 140, 220, 12), _colour(rng, 170, 210, 245, 10), ramp)
    cloud = np.clip((_fractal(rng, size, rng.uniform(50, 110), 5) - rng.uniform(0.45, 0.6)) * 3, 0, 1)[..., None]
    return image * (1 - cloud) + 248 * cloud


def _snow(rng: np.random.Generator, size: Size) -> np.ndarray:
    drifts = _fractal(rng, size, rng.uniform(50, 120), 3)
    sparkle = (_noise(rng, size, 1.5) > 0.93)[..., None] * 25
    return _mix(_colour(rng, 205, 218, 236, 6), _colour(rng, 244, 247, 252, 3), drifts) + sparkle


def _checkerboard(rng: np.random.Generator, size: Size) -> np.ndarray:
    cell = int(rng.integers(8, 20))
    y, x = np.mgrid[0 : size[0], 0 : size[1]]
    odd = ((y // cell + x // cell) % 2).astype(np.float32)
    return _mix(rng.uniform(0, 110, 3).astype(np.float32), rng.uniform(150, 255, 3).astype(np.float32), odd)


def _plain(rng: np.random.Generator, size: Size) -> np.ndarray:
    """A colour, a ramp of two or soft blotches: what stands behind many product photos and drawings."""
    first, second = (rng.uniform(0, 255, 3).astype(np.float32) for _ in range(2))
    style = rng.integers(3)
    if style == 0:
        amount = np.zeros(size, dtype=np.float32)
    elif style == 1:
        y, x = np.mgrid[0 : size[0], 0 : size[1]].astype(np.float32)
        angle = rng.uniform(0, 2 * np.pi)
        amount = np.cos(angle) * y / size[0] + np.sin(angle) * x / size[1]
        amount = (amount - amount.min()) / (np.ptp(amount) + 1e-6)
    else:
        amount = _fractal(rng, size, rng.uniform(20, 80), 3)
    return _mix(first, second, amount)


_TEXTURES: dict[str, Callable[[np.random.Generator, Size], np.ndarray]] = {
    "grass": _grass,
    "brick wall": _brick_wall,
    "sand": _sand,
    "water": _water,
    "wooden floor": _wood,
    "sky": _sky,
    "snow": _snow,
    "checkerboard": _checkerboard,
    "plain background": _plain,
}
#: The textures that are classes of the benchmark.
BACKGROUNDS: tuple[str, ...] = tuple(name for name in _TEXTURES if name != "plain background")
#: Drawn in training only: any colour, so that an object is not known by what stands behind it.
PLAIN = "plain background"


def texture(name: str, seed: int, size: Size) -> np.ndarray:
    """Draw one background.

    Args:
        name: one of :data:`BACKGROUNDS` or :data:`PLAIN`.
        seed: the same seed gives the same pixels.
        size: ``(height, width)`` in pixels.

    Returns:
        uint8 array ``[height, width, 3]``, RGB.

    Raises:
        KeyError: the name is not a texture.
    """
    if name not in _TEXTURES:
        raise KeyError(f"no texture named {name!r}; choose one of {', '.join(_TEXTURES)}")
    return _TEXTURES[name](np.random.default_rng(seed), size).clip(0, 255).astype(np.uint8)
