"""Masks of nano's SAM on validation scenes, to watch a training. Not the benchmark."""

import cv2
import numpy as np
import torch
from segment_anything import SamPredictor
from segment_anything.modeling import Sam
from torch import nn

from ovseg.nano import sprites as sprite_files
from ovseg.nano.probe import ProbeHook, validation_scenes
from ovseg.nano.textures import BACKGROUNDS
from ovseg.registry import HOOKS

SIZES = ((224, 224), (256, 320), (320, 240), (288, 384))
SEED = 777_000_000


def objects_of(mask: np.ndarray, background: int, least: int = 100) -> list[np.ndarray]:
    """The objects of a class mask, bool ``[h, w]`` each, that cover ``least`` pixels."""
    return [mask == i for i in np.unique(mask) if i < background and (mask == i).sum() >= least]


def middle(mask: np.ndarray) -> tuple[int, int]:
    """(x, y) of the pixel that is farthest from the mask's edge, the image's edges included."""
    depth = cv2.distanceTransform(np.pad(mask, 1).astype(np.uint8), cv2.DIST_L2, 5)[1:-1, 1:-1]
    y, x = divmod(int(depth.argmax()), mask.shape[1])
    return x, y


@torch.no_grad()
def evaluate_masks(sam: Sam, scenes: list[tuple[np.ndarray, np.ndarray]], background: int) -> dict[str, float]:
    """mIoU in percent over the objects of scenes, prompted one by one through segment_anything's own predictor.

    Args:
        sam: in evaluation mode.
        scenes: images uint8 ``[h, w, 3]`` with class masks ``[h, w]``, each object of a class of its own.
        background: classes from this one on are no objects.

    Returns:
        ``point``: one point in the object's middle, of three masks the one that claims to be best; ``oracle``: of these
        the best; ``single``: one point, one mask; ``box``: the object's box, one mask; ``claim``: mean error of the
        IoU that the mask of ``point`` claims.
    """
    predictor, rows = SamPredictor(sam), []
    for image, labels in scenes:
        objects = objects_of(labels, background)
        if not objects:
            continue
        predictor.set_image(image)
        true = torch.from_numpy(np.stack(objects))[:, None]
        points = torch.tensor([middle(mask) for mask in objects])[:, None]
        spans = [[np.flatnonzero(mask.any(axis=axis))[[0, -1]] for axis in (0, 1)] for mask in objects]
        boxes = torch.tensor(np.array([[x[0], y[0], x[1], y[1]] for x, y in spans]))
        points = predictor.transform.apply_coords_torch(points, image.shape[:2])
        boxes = predictor.transform.apply_boxes_torch(boxes, image.shape[:2])
        ones = torch.ones(points.shape[:2])
        masks, claims, _ = predictor.predict_torch(points, ones)
        ious = _iou(masks, true)
        best = claims.argmax(dim=1, keepdim=True)
        point = ious.gather(1, best)[:, 0]
        single = _iou(predictor.predict_torch(points, ones, multimask_output=False)[0], true)[:, 0]
        box = _iou(predictor.predict_torch(None, None, boxes, multimask_output=False)[0], true)[:, 0]
        error = (claims.gather(1, best)[:, 0] - point).abs()
        rows.append(torch.stack([point, ious.amax(dim=1), single, box, error]))
    means = (100 * torch.cat(rows, dim=1).mean(dim=1)).tolist()
    return dict(zip(("point", "oracle", "single", "box", "claim"), means, strict=True))


def _iou(masks: torch.Tensor, true: torch.Tensor) -> torch.Tensor:
    return (masks & true).sum(dim=(2, 3)) / (masks | true).sum(dim=(2, 3)).clamp(min=1)


@HOOKS.register_module()
class MaskProbeHook(ProbeHook):
    """:class:`~ovseg.nano.probe.ProbeHook` with the masks of :class:`~ovseg.nano.sam_pretrain.SamPretrainer`.

    Args:
        sprites: sprite pack or folder.
        interval: iterations between two probes.
        count: number of scenes, an equal share of each of four sizes.
    """

    def __init__(self, sprites: str = str(sprite_files.DEFAULT_PACK), interval: int = 250, count: int = 24) -> None:
        self.interval = interval
        pack = sprite_files.load(sprites)
        parts = [validation_scenes(pack, count // len(SIZES), size, SEED + i) for i, size in enumerate(SIZES)]
        self.words, self.scenes = parts[0][0], [scene for _, scenes in parts for scene in scenes]

    def measure(self, model: nn.Module) -> dict[str, float]:
        """mIoU in percent, see :func:`evaluate_masks`."""
        return evaluate_masks(model.sam, self.scenes, len(self.words) - len(BACKGROUNDS))
