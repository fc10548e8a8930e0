"""SAM's automatic masks: a grid of points, decoded in batches."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from segment_anything import SamAutomaticMaskGenerator, SamPredictor
from segment_anything.utils.amg import (
    MaskData,
    batched_mask_to_box,
    calculate_stability_score,
    is_box_near_crop_edge,
    mask_to_rle_pytorch,
    uncrop_masks,
)

from ovseg.backbones.sam import SamBackbone, sam_supervision
from ovseg.backbones.sam_decoder import ImageDecoder
from ovseg.regions.base import RegionSource
from ovseg.registry import REGIONS
from ovseg.weights import known_sha256

MASKS_AT_ONCE = 8
"""Masks at the photo's size that exist at a time."""
DEFAULT_WEIGHTS = "sam/vit_b"


@REGIONS.register_module()
class SamMasks(RegionSource):
    """Automatic masks of SAM, with segment_anything's own generator and ovseg's image encoder.

    Args:
        weights, checkpoint, precision: see :class:`ovseg.backbones.sam.SamBackbone`.
        points_per_side: points of the grid along a side.
        points_per_batch: prompts decoded at once; does not change the masks.
        iou_threshold: least predicted IoU.
        stability_threshold: least IoU of the mask at two cut-offs.
        nms_threshold: box IoU above which the worse of two masks goes.
        crop_layers: also look at crops of the photo, ``2^i`` a side in layer i.
        min_area: fill holes and drop islands below this many pixels; 0: off.
        order: painting order where masks overlap: CorrCLIP paints small masks first.
    """

    weights_argument = "weights"

    def __init__(
        self,
        weights: str = DEFAULT_WEIGHTS,
        checkpoint: str | Path | None = None,
        precision: str = "fp32",
        points_per_side: int = 32,
        points_per_batch: int = 64,
        iou_threshold: float = 0.88,
        stability_threshold: float = 0.95,
        nms_threshold: float = 0.7,
        crop_layers: int = 0,
        min_area: int = 0,
        order: str = "ascending",
    ) -> None:
        super().__init__(order)
        self.backbone = SamBackbone(weights, checkpoint, precision)
        self.supervision = self.backbone.supervision
        self.settings = dict(
            points_per_side=points_per_side,
            pred_iou_thresh=iou_threshold,
            stability_score_thresh=stability_threshold,
            box_nms_thresh=nms_threshold,
            crop_n_layers=crop_layers,
            min_mask_region_area=min_area,
        )
        self.points_per_batch = points_per_batch

    def records(self, image: np.ndarray) -> list[dict]:
        """segment_anything's records: segmentation, area, bbox, predicted_iou, stability_score ..."""
        generator = _Generator(self.backbone.sam, points_per_batch=self.points_per_batch, **self.settings)
        generator.predictor = _Predictor(self.backbone)
        return generator.generate(image)

    def masks(self, image: np.ndarray) -> list[np.ndarray]:
        return [record["segmentation"] for record in self.records(image)]

    @classmethod
    def supervision_of(cls, config: Mapping[str, object]) -> str:
        return sam_supervision(str(config.get("weights", DEFAULT_WEIGHTS)))

    @classmethod
    def cache_key(cls, config: Mapping[str, object]) -> dict[str, object]:
        """Weights by hash, so that those of a new training never find the masks of the old."""
        weights, checkpoint = config.get("weights", DEFAULT_WEIGHTS), config.get("checkpoint")
        settings = {k: v for k, v in super().cache_key(config).items() if k not in ("weights", "checkpoint")}
        return {**settings, "sha256": known_sha256(weights, checkpoint)}

    def describe(self) -> dict[str, object]:
        return {**super().describe(), **self.backbone.describe(), **self.settings}


class _Predictor(SamPredictor):
    """segment_anything's predictor on ovseg's encoder and decoder."""

    def __init__(self, backbone: SamBackbone) -> None:
        super().__init__(backbone.sam)
        self.backbone = backbone

    @torch.no_grad()
    def set_torch_image(self, transformed_image: torch.Tensor, original_image_size: tuple[int, ...]) -> None:
        self.reset_image()
        self.original_size = original_image_size
        self.input_size = tuple(transformed_image.shape[-2:])
        self.features = self.backbone.encode(self.model.preprocess(transformed_image))[0]
        self.decoder = ImageDecoder(self.model, self.features)
        self.is_image_set = True


class _Generator(SamAutomaticMaskGenerator):
    """segment_anything's generator; only masks of sufficient predicted IoU are brought to the photo's size."""

    def _process_batch(
        self, points: np.ndarray, im_size: tuple[int, ...], crop_box: list[int], orig_size: tuple[int, ...]
    ) -> MaskData:
        predictor: _Predictor = self.predictor
        xy = torch.as_tensor(predictor.transform.apply_coords(points, im_size), device=predictor.device)[:, None]
        inside = torch.ones(xy.shape[:2], dtype=torch.int, device=xy.device)
        logits, iou = predictor.decoder(*predictor.model.prompt_encoder((xy, inside), None, None), multimask=True)
        candidates = MaskData(
            logits=logits.flatten(0, 1),
            iou_preds=iou.flatten(),
            points=torch.as_tensor(points.repeat(logits.shape[1], axis=0)),
        )
        if self.pred_iou_thresh > 0:
            candidates.filter(candidates["iou_preds"] > self.pred_iou_thresh)
        data = MaskData()
        for part in torch.arange(len(candidates["logits"])).split(MASKS_AT_ONCE):
            some = MaskData(**{name: value[part] for name, value in candidates.items()})
            data.cat(self._full_size(some, crop_box, orig_size))
        return data

    def _full_size(self, data: MaskData, crop_box: list[int], orig_size: tuple[int, ...]) -> MaskData:
        """What segment_anything does with logits, after :meth:`SamPredictor.predict_torch` has upscaled them."""
        predictor, model = self.predictor, self.predictor.model
        low = data["logits"][:, None]
        logits = model.postprocess_masks(low, predictor.input_size, predictor.original_size)[:, 0]
        data["stability_score"] = calculate_stability_score(logits, model.mask_threshold, self.stability_score_offset)
        data["masks"] = logits > model.mask_threshold
        del data["logits"]
        if self.stability_score_thresh > 0:
            data.filter(data["stability_score"] >= self.stability_score_thresh)
        data["boxes"] = batched_mask_to_box(data["masks"])
        data.filter(~is_box_near_crop_edge(data["boxes"], crop_box, [0, 0, orig_size[1], orig_size[0]]))
        data["rles"] = mask_to_rle_pytorch(uncrop_masks(data["masks"], crop_box, *orig_size))
        del data["masks"]
        return data
