"""The loss of decoders that give a set of masks: Mask2Former's, as the package transformers has it."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import torch
from mmengine.dist import all_reduce, get_world_size
from torch import Tensor

from ovseg.registry import LOSSES
from ovseg.training.losses import SegmentationLoss, check_labels

if TYPE_CHECKING:
    from transformers.models.mask2former.modeling_mask2former import Mask2FormerLoss

    from ovseg.decoders import Prediction

NAMES = {"loss_cross_entropy": "loss_class", "loss_mask": "loss_mask", "loss_dice": "loss_dice"}


@LOSSES.register_module()
class MaskSetLoss(SegmentationLoss):
    """Each class of an image is matched with one mask; class, binary cross-entropy and dice of these (Mask2Former).

    Cheng et al., "Masked-attention Mask Transformer for Universal Image Segmentation", CVPR 2022, sections 3.2 and 3.3:
    Hungarian matching by ``class_weight * -p + mask_weight * BCE + dice_weight * dice`` on uniform random points, the
    losses with the same weights on points of which most are the most uncertain of a larger random set. Masks without a
    match are trained towards "no object". A target is all pixels of one class. Layers before the last
    (``extras['earlier_*']``) are matched and trained on their own.

    Args:
        class_weight, mask_weight, dice_weight: see above.
        no_object_weight: weight of "no object" in the class loss.
        points: number of points per mask.
        oversample_ratio: candidates per point.
        importance_sample_ratio: share of the points that are the most uncertain candidates.

    Raises:
        ImportError: without the package transformers.
    """

    def __init__(
        self,
        class_weight: float = 2.0,
        mask_weight: float = 5.0,
        dice_weight: float = 5.0,
        no_object_weight: float = 0.1,
        points: int = 12544,
        oversample_ratio: float = 3.0,
        importance_sample_ratio: float = 0.75,
    ) -> None:
        super().__init__()
        self.weights = dict(loss_class=float(class_weight), loss_mask=float(mask_weight), loss_dice=float(dice_weight))
        self._settings = (
            *(class_weight, mask_weight, dice_weight, no_object_weight),
            *(points, oversample_ratio, importance_sample_ratio),
        )
        self.criterion(1)  # says at once what is missing

    def criterion(self, words: int) -> Mask2FormerLoss:
        """The module of transformers that matches and compares, for a number of words."""
        return _criterion(words, self._settings)

    def forward(self, prediction: Prediction, labels: Tensor, ignore_index: int) -> dict[str, Tensor]:
        """``loss_class``, ``loss_mask``, ``loss_dice``, weighted; those of earlier layers with ``_0``, ``_1``, ...

        Args:
            prediction: ``maps`` ``[B, Q, h, w]`` mask logits; ``extras['class_logits']`` ``[B, Q, T + 1]``, the last
                class being "no object"; optionally ``extras['earlier_masks']`` ``[B, L, Q, h, w]`` and
                ``extras['earlier_class_logits']`` ``[B, L, Q, T + 1]``, from the first layer on.
            labels: int64 ``[B, H, W]``, below T or ``ignore_index``.
            ignore_index: label of pixels that belong to no mask.

        Raises:
            ValueError: for a label that is no word.
        """
        logits = prediction.extras["class_logits"]
        masks, classes = targets(labels, logits.shape[-1] - 1, ignore_index)
        criterion = self.criterion(logits.shape[-1] - 1).to(logits.device)
        layers = [("", prediction.maps, logits)]
        if "earlier_masks" in prediction.extras:
            # the later of them first: the order in which Mask2Former draws its random points
            earlier_masks, earlier_logits = (prediction.extras[f"earlier_{n}"] for n in ("masks", "class_logits"))
            layers += [(f"_{i}", earlier_masks[:, i], earlier_logits[:, i]) for i in range(earlier_masks.shape[1])]
        losses = {}
        with torch.autocast(logits.device.type, enabled=False):
            for suffix, layer_masks, layer_logits in layers:
                found = criterion(layer_masks.float(), layer_logits.float(), masks, classes)
                for theirs, name in NAMES.items():
                    losses[name + suffix] = self.weights[name] * found[theirs]
        return losses


def targets(labels: Tensor, words: int, ignore_index: int) -> tuple[list[Tensor], list[Tensor]]:
    """One mask for each class of an image.

    Args:
        labels: int64 ``[B, H, W]``.
        words: number of classes.
        ignore_index: label that is none.

    Returns:
        for each image float32 ``[n, H, W]`` masks and int64 ``[n]`` classes, ascending.

    Raises:
        ValueError: for a label that is no word.
    """
    masks, classes = [], []
    for image in labels:
        present = image.unique()
        present = present[present != ignore_index]
        check_labels(present, words)
        classes.append(present)
        masks.append((image == present[:, None, None]).float())
    return masks, classes


@lru_cache(maxsize=8)
def _criterion(words: int, settings: tuple[float, ...]) -> Mask2FormerLoss:
    """transformers' criterion for a number of words; the number of masks is averaged over MMEngine's processes."""
    try:
        from transformers import Mask2FormerConfig
        from transformers.models.mask2former.modeling_mask2former import Mask2FormerLoss
    except ImportError as error:
        raise ImportError("MaskSetLoss needs the package transformers: pip install 'ovseg[trained]'") from error

    class Criterion(Mask2FormerLoss):
        def get_num_masks(self, class_labels: list[Tensor], device: torch.device) -> Tensor:
            count = torch.tensor(float(sum(map(len, class_labels))), device=device)
            all_reduce(count)
            return (count / get_world_size()).clamp(min=1)

    class_weight, mask_weight, dice_weight, no_object_weight, points, oversample, importance = settings
    config = Mask2FormerConfig(
        num_labels=words,
        class_weight=class_weight,
        mask_weight=mask_weight,
        dice_weight=dice_weight,
        no_object_weight=no_object_weight,
        train_num_points=points,
        oversample_ratio=oversample,
        importance_sample_ratio=importance,
    )
    return Criterion(config, {})
