"""Endless prompts and masks: scenes composed on the fly with the outlines of what was pasted, for nano's SAM."""

from collections.abc import Sequence

import cv2
import numpy as np
import torch
from mmengine.registry import FUNCTIONS
from segment_anything.utils.transforms import ResizeLongestSide

from ovseg.nano.dataset import RandomScenes
from ovseg.registry import DATASETS

#: A SAM's masks have four cells for each cell of its image embedding, here with patches of 16 pixels.
MASK_STRIDE = 4
#: What is left of an object behind others counts from this many pixels of the model's input.
_MIN_AREA = 30


@DATASETS.register_module()
class SceneMasks(RandomScenes):
    """Scenes with prompts and the masks that they mean. Words stay behind: SAM is trained without classes.

    A random part of the scene is scaled so that its longer side fills the model's input. Objects are taken in random
    order, again from the start where there are fewer than prompts. An object is a pasted sprite as far as it can be
    seen, the background (with ``background_share``), or a sprite together with all that touch it (``group_share``): a
    point then is ambiguous, as in Kirillov et al., ICCV 2023, section 3. Boxes are never given for groups.

    Args:
        image_size: side of the model's square input in pixels.
        crop: least and largest side of the part in pixels, at most ``size``.
        points: prompts that are a point, drawn evenly from the mask.
        boxes: prompts that are a box, its corners moved by up to a tenth of its sides (appendix A).
        background_share: probability that the background counts among the objects.
        group_share: probability that a point means the sprite and all that touch it.
        permute_share: probability that the colour channels are shuffled, so that no object is known by its colour.
        kwargs: arguments of :class:`~ovseg.nano.dataset.RandomScenes`; ``size`` is what is drawn before the crop.

    Items are dicts: ``inputs`` uint8 ``[3, image_size, image_size]`` RGB, 0 right of and below the photo; ``size``
    int64 ``[2]``, its height and width there; ``targets`` uint8 ``[points + boxes, side, side]``, 255 times the share
    of each mask cell that is covered; ``ids`` int64 ``[grid, grid]``, what most of each cell of the image embedding
    shows: 0 the background, from 1 on the sprites, -1 no photo or no majority; ``points`` float32 ``[points, 2]``
    (x, y); ``boxes`` float32 ``[boxes, 4]`` (x0, y0, x1, y1), in pixels of the input.

    Raises:
        ValueError: a crop larger than what is drawn.
    """

    def __init__(
        self,
        image_size: int = 256,
        crop: tuple[int, int] = (224, 384),
        points: int = 5,
        boxes: int = 3,
        background_share: float = 0.5,
        group_share: float = 0.1,
        permute_share: float = 0.3,
        size: int = 384,
        **kwargs,
    ) -> None:
        super().__init__(size=size, **kwargs)
        if crop[1] > size:
            raise ValueError(f"crop goes up to {crop[1]} pixels, but scenes are drawn at {size}: raise size")
        self.image_size, self.crop, self.points, self.boxes = image_size, crop, points, boxes
        self.background_share, self.group_share, self.permute_share = background_share, group_share, permute_share

    def __getitem__(self, index: int) -> dict:
        scene, _ = self.draw(index)
        # A stream of its own: the scene stays that of (seed, index), whatever is asked about it.
        rng = np.random.default_rng((self.seed, index, 1))
        h, w = rng.integers(self.crop[0], self.crop[1] + 1, 2)
        y, x = rng.integers(0, self.size - h + 1), rng.integers(0, self.size - w + 1)
        image, ids = scene.image[y : y + h, x : x + w], scene.mask[y : y + h, x : x + w]
        if rng.random() < self.permute_share:
            image = image[..., rng.permutation(3)]
        image, ids, size = self._fit(image, ids)

        objects = [i for i in np.flatnonzero(np.bincount(ids[: size[0], : size[1]].ravel()) >= _MIN_AREA) if i]
        if not objects or rng.random() < self.background_share:
            objects.append(0)
        order = [rng.permutation(objects) for _ in range(-(-(self.points + self.boxes) // len(objects)))]
        masks = [ids == i for i in np.concatenate(order)[: self.points + self.boxes]]
        for mask in masks:
            mask[size[0] :], mask[:, size[1] :] = False, False
        points = np.array([self._point(rng, mask) for mask in masks[: self.points]], dtype=np.float32)
        boxes = np.array([self._box(rng, mask) for mask in masks[self.points :]], dtype=np.float32)
        for k in range(self.points):
            if rng.random() < self.group_share:
                masks[k] = _with_neighbours(masks[k], ids)
        side = self.image_size // MASK_STRIDE
        cells = np.stack(masks).reshape(-1, side, MASK_STRIDE, side, MASK_STRIDE)
        return {
            "inputs": image.transpose(2, 0, 1),
            "size": np.array(size),
            "ids": _majority(ids, size, 4 * MASK_STRIDE),
            "targets": (cells.mean(axis=(2, 4), dtype=np.float32) * 255).astype(np.uint8),
            "points": points.reshape(-1, 2),
            "boxes": boxes.reshape(-1, 4),
        }

    def _fit(self, image: np.ndarray, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray, tuple[int, int]]:
        """Scale to the model's input and pad on the right and below."""
        h, w = ResizeLongestSide.get_preprocess_shape(*ids.shape, self.image_size)
        smooth = cv2.INTER_AREA if h < ids.shape[0] else cv2.INTER_LINEAR
        square = np.zeros((self.image_size, self.image_size, 3), dtype=np.uint8)
        square[:h, :w] = cv2.resize(np.ascontiguousarray(image), (w, h), interpolation=smooth)
        labels = np.zeros(square.shape[:2], dtype=np.uint8)
        labels[:h, :w] = cv2.resize(np.ascontiguousarray(ids), (w, h), interpolation=cv2.INTER_NEAREST)
        return square, labels, (h, w)

    def _point(self, rng: np.random.Generator, mask: np.ndarray) -> tuple[int, int]:
        inside = np.flatnonzero(mask)
        y, x = divmod(int(inside[rng.integers(len(inside))]), mask.shape[1])
        return x, y

    def _box(self, rng: np.random.Generator, mask: np.ndarray) -> np.ndarray:
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        box = np.array([columns[0], rows[0], columns[-1], rows[-1]], dtype=np.float32)
        # A tenth of the sides, at most 20 pixels of the 1024 of the original.
        spread = np.minimum(np.tile(box[2:] - box[:2], 2) / 10, self.image_size * 20 / 1024)
        return (box + rng.normal(0, 0.5, 4).clip(-1, 1) * spread).clip(0, self.image_size - 1)


def _majority(ids: np.ndarray, size: tuple[int, int], stride: int) -> np.ndarray:
    """The id of more than half of each ``stride x stride`` cell inside ``size``, else -1; int64 ``[grid, grid]``."""
    labels = ids.astype(np.int64)
    labels[size[0] :], labels[:, size[1] :] = -1, -1
    grid = len(labels) // stride
    cells = labels.reshape(grid, stride, grid, stride).transpose(0, 2, 1, 3).reshape(grid, grid, -1)
    middle = np.sort(cells, axis=-1)[..., cells.shape[-1] // 2]  # a majority holds the middle place
    return np.where((cells == middle[..., None]).mean(axis=-1) > 0.5, middle, -1)


def _with_neighbours(mask: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """The mask and all sprites that touch it; the mask itself where it is the background's."""
    if not ids[mask].any():
        return mask
    around = ids[cv2.dilate(mask.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0]
    touching = np.unique(around)
    return np.isin(ids, touching[touching > 0])


@FUNCTIONS.register_module()
def stack_prompts(batch: Sequence[dict]) -> dict:
    """Collate: every entry of the items as one tensor with a batch axis in front."""
    return {key: torch.from_numpy(np.stack([item[key] for item in batch])) for key in batch[0]}
