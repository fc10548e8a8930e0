"""Scenes: sprites pasted on a texture, with the list of words that can be seen and the true mask."""

import dataclasses
from collections.abc import Mapping, Sequence

import cv2
import numpy as np

from ovseg.nano.sprites import SIZE, Concept


@dataclasses.dataclass
class Scene:
    """A composed image.

    Attributes:
        image: uint8 ``[h, w, 3]``, RGB.
        mask: uint8 ``[h, w]``: 0 where the background is seen, ``i + 1`` where item ``i`` is seen.
    """

    image: np.ndarray
    mask: np.ndarray

    def seen(self, items: int, share: float) -> np.ndarray:
        """bool ``[items + 1]``: which of background and items cover at least ``share`` of the image."""
        return np.bincount(self.mask.ravel(), minlength=items + 1) >= share * self.mask.size


class SpriteBook:
    """The sprites by concept, each at three sizes, so that shrinking one never skips pixels.

    Args:
        sprites: ``{file name: uint8 [128, 128, 4]}``, premultiplied RGBA.
        concepts: which words to hold; those without any sprite in ``sprites`` are left out.
    """

    def __init__(self, sprites: Mapping[str, np.ndarray], concepts: Sequence[Concept]) -> None:
        self.concepts = [c for c in concepts if any(name in sprites for name in c.sprites)]
        self.words = [c.word for c in self.concepts]
        self._levels = {}
        for name in (name for c in self.concepts for name in c.sprites if name in sprites):
            half = cv2.resize(sprites[name], (SIZE // 2, SIZE // 2), interpolation=cv2.INTER_AREA)
            quarter = cv2.resize(half, (SIZE // 4, SIZE // 4), interpolation=cv2.INTER_AREA)
            self._levels[name] = (sprites[name], half, quarter)
        self._names = [[name for name in c.sprites if name in sprites] for c in self.concepts]

    def draw(self, rng: np.random.Generator, index: int, edge: float) -> np.ndarray:
        """One sprite of concept ``index`` in the smallest stored size that is not below ``edge`` pixels."""
        names = self._names[index]
        levels = self._levels[names[rng.integers(len(names))]]
        return levels[2 if edge <= SIZE // 4 else 1 if edge <= SIZE // 2 else 0]


def jitter(rng: np.random.Generator, image: np.ndarray, strength: float) -> np.ndarray:
    """Change brightness and colour balance of a uint8 image ``[h, w, 3]`` or premultiplied sprite ``[h, w, 4]``."""
    gain = np.exp(rng.normal(0, strength / 2, 3) + rng.normal(0, strength))
    if image.shape[2] == 3:
        return cv2.multiply(image, (*gain, 1.0))
    alpha = image[..., 3]
    # Premultiplied colours may not exceed alpha.
    return cv2.min(cv2.multiply(image, (*gain, 1.0)), cv2.merge([alpha] * 4))


def paste(
    scene: Scene,
    item: int,
    sprite: np.ndarray,
    centre: tuple[float, float],
    edge: float,
    angle: float = 0.0,
    flip: bool = False,
    squeeze: float = 1.0,
) -> None:
    """Paste a sprite onto a scene, in place.

    Args:
        scene: image and mask that are drawn on.
        item: index of the item; the mask gets ``item + 1`` where the sprite covers more than half of a pixel.
        sprite: uint8 ``[s, s, 4]``, premultiplied RGBA.
        centre: ``(y, x)`` of the sprite's middle, pixels.
        edge: length of its longer side, pixels.
        angle: rotation, degrees.
        flip: mirror left and right.
        squeeze: factor on the width.
    """
    height, width = scene.mask.shape
    source = sprite.shape[0]
    scale = edge / source
    cos, sin = np.cos(np.deg2rad(angle)) * scale, np.sin(np.deg2rad(angle)) * scale
    matrix = np.array([[cos, -sin], [sin, cos]]) @ np.diag([(-1 if flip else 1) * squeeze, 1])
    reach = np.abs(matrix).sum(1) * source / 2 + 1
    left, top = max(0, int(centre[1] - reach[0])), max(0, int(centre[0] - reach[1]))
    right, bottom = min(width, int(centre[1] + reach[0]) + 1), min(height, int(centre[0] + reach[1]) + 1)
    if right <= left or bottom <= top:
        return
    # warpAffine counts from pixel centres: the sprite's middle lies at (source - 1) / 2.
    middle = (source - 1) / 2
    offset = np.array([centre[1] - left, centre[0] - top]) - matrix @ (middle, middle)
    warped = cv2.warpAffine(sprite, np.column_stack([matrix, offset]), (right - left, bottom - top))
    alpha = warped[..., 3]
    region = scene.image[top:bottom, left:right]
    behind = cv2.multiply(region, cv2.merge([255 - alpha] * 3), scale=1 / 255)
    cv2.add(behind, warped[..., :3], dst=behind)
    region[:] = behind
    scene.mask[top:bottom, left:right][alpha > 127] = item + 1
