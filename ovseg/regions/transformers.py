"""Masks of models in Hugging Face transformers: SAM 2, Mask2Former, EoMT. An optional source."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ovseg.content import weights_of
from ovseg.regions.base import RegionSource
from ovseg.registry import REGIONS
from ovseg.weights import file_sha256

HINT = (
    "region source {name} needs the package transformers, which ovseg does not install by itself: "
    "pip install 'ovseg[sam]'. SlicRegions and SamMasks work without it."
)


def _transformers(name: str):
    """The package.

    Raises:
        ImportError: saying what to install.
    """
    try:
        import transformers
    except ImportError as error:
        raise ImportError(HINT.format(name=name)) from error
    return transformers


class TransformersMasks(RegionSource):
    """What the sources below share: a model by its name on the hub or a local folder."""

    weights_argument = "model"

    @classmethod
    def cache_key(cls, config: Mapping[str, object]) -> dict[str, object]:
        """A local folder's weights by their hashes; the hub's models by name."""
        folder = Path(str(config.get("model", ""))).expanduser()
        files = sorted(f for f in folder.glob("*") if f.suffix in (".safetensors", ".bin")) if folder.is_dir() else []
        return {**super().cache_key(config), "sha256": [file_sha256(file) for file in files]}


@REGIONS.register_module()
class Sam2Masks(TransformersMasks):
    """SAM 2's automatic masks through transformers' mask-generation pipeline (CorrCLIP's published numbers use SAM 2).

    Args:
        model: name on the hub or local folder.
        points_per_side: points of the grid along a side.
        points_per_batch: prompts decoded at once.
        iou_threshold, stability_threshold: as in :class:`ovseg.regions.sam.SamMasks`.
        order: painting order.

    Raises:
        ImportError: without transformers.
    """

    supervision = "SAM 2: SA-1B and SA-V masks (no classes)"

    def __init__(
        self,
        model: str = "facebook/sam2-hiera-large",
        points_per_side: int = 32,
        points_per_batch: int = 64,
        iou_threshold: float = 0.88,
        stability_threshold: float = 0.95,
        order: str = "ascending",
    ) -> None:
        super().__init__(order)
        self.pipeline = _transformers(type(self).__name__).pipeline("mask-generation", model=model)
        self.model, self.points_per_batch = model, points_per_batch
        self.settings = dict(
            points_per_crop=points_per_side,
            pred_iou_thresh=iou_threshold,
            stability_score_thresh=stability_threshold,
        )

    def weights(self) -> dict[str, Tensor]:
        return weights_of(self.pipeline.model)

    def masks(self, image: np.ndarray) -> list[np.ndarray]:
        found = self.pipeline(Image.fromarray(image), points_per_batch=self.points_per_batch, **self.settings)["masks"]
        return [np.asarray(mask, bool) for mask in found]

    def describe(self) -> dict[str, object]:
        return {**super().describe(), "model": self.model, **self.settings}


@REGIONS.register_module()
class PanopticMasks(TransformersMasks):
    """Segments of Mask2Former or EoMT; class names are thrown away. Trained on masks *with* classes: say so.

    Args:
        model: name on the hub or local folder.
        threshold: least score of a segment.
        order: painting order (segments do not overlap).

    Raises:
        ImportError: without transformers.
    """

    supervision = "Mask2Former / EoMT: panoptic masks with classes"

    def __init__(
        self,
        model: str = "facebook/mask2former-swin-base-coco-panoptic",
        threshold: float = 0.5,
        order: str = "ascending",
    ) -> None:
        super().__init__(order)
        transformers = _transformers(type(self).__name__)
        self.processor = transformers.AutoImageProcessor.from_pretrained(model)
        self.network = transformers.AutoModelForUniversalSegmentation.from_pretrained(model).eval()
        self.model, self.threshold = model, float(threshold)

    @torch.no_grad()
    def masks(self, image: np.ndarray) -> list[np.ndarray]:
        device = next(self.network.parameters()).device
        inputs = self.processor(images=Image.fromarray(image), return_tensors="pt").to(device)
        result = self.processor.post_process_panoptic_segmentation(
            self.network(**inputs), threshold=self.threshold, target_sizes=[image.shape[:2]]
        )[0]
        ids = result["segmentation"].cpu().numpy()  # "no segment" is 0 for Mask2Former and -1 for EoMT
        return [ids == segment["id"] for segment in result["segments_info"]]

    def describe(self) -> dict[str, object]:
        return {**super().describe(), "model": self.model, "threshold": self.threshold}
