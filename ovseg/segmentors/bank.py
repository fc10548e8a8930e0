"""What a memory bank holds of a photo: the regions' keys from a guide, their values from a segmentor's CLIP."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ovseg.backbones import PhotoGuide
from ovseg.content import Fingerprint, weights_of
from ovseg.photo import Photo
from ovseg.scores import ScoreMap
from ovseg.segmentors.open_vocab import OpenVocabSegmentor

NO_REGION = 0
"""Id of the pixels that no mask covers: they are no region of the bank."""

VALUE_FACTS = (
    *("attention", "guide", "regions", "weights", "weights_content", "precision", "pos_embed"),
    *("crop", "stride", "pad_multiple", "fit_multiple"),
)


@dataclass(frozen=True)
class RegionReader:
    """Keys and values of a photo's regions (CorrCLIPv2's bank).

    *Key*: the mean of the guide's unit features over the region, at the photo's own size. *Value*: the segmentor's
    patch embeddings, **not** of unit length, enlarged, averaged over windows and resized to the photo, their mean over
    the region, of unit length. The official code makes values with DINO ViT-B/8 (q + k) on every window, whatever guide
    makes the keys: take such a segmentor to build banks that are to be like its.

    Attributes:
        guide: makes the keys.
        segmentor: makes the values; its regions are used, its stitch, head and refiners are not.
    """

    guide: PhotoGuide
    segmentor: OpenVocabSegmentor

    @torch.no_grad()
    def read(self, photo: Photo) -> tuple[Tensor, Tensor]:
        """Keys float32 ``[R, C]`` and values float32 ``[R, D]``, by ascending id of ``photo.regions``; the pixels of
        id 0 are left out.

        Raises:
            ValueError: for a photo without regions.
        """
        if photo.regions is None:
            raise ValueError("a bank is made of regions: the segmentor needs regions=dict(...), or the photo its own")
        ids, index = photo.regions.unique(return_inverse=True)
        keys = self.guide.region_means(photo, photo.regions)[1]
        total = keys.new_zeros(len(ids), self.segmentor.backbone.tower.embed_dim)
        for channels, rows, columns, block in self._embeddings(photo).blocks():
            flat = index[rows, columns].flatten()
            total[:, channels].index_add_(0, flat, block.flatten(1).T)
        values = F.normalize(total, dim=-1)
        wanted = ids != NO_REGION
        return keys[wanted], values[wanted]

    def _embeddings(self, photo: Photo) -> ScoreMap:
        """Patch embeddings of the photo as maps, one per dimension of the text space."""
        encoder = self.segmentor.encoder
        layout, parts = encoder.layout(photo), []
        for _, batch in encoder.batches([photo], [layout]):
            features = encoder.encode(batch)
            parts.append(features.as_image())
        return ScoreMap.from_windows(torch.cat(parts), layout, photo.size)

    def provenance(self) -> dict[str, object]:
        """What made keys and values: settings and the content of all weights; words and head play no part."""
        facts = self.segmentor.describe()
        return {
            "guide": self.guide.describe(),
            "guide_content": Fingerprint()(weights_of(self.guide)),
            "values": {name: facts[name] for name in VALUE_FACTS if name in facts},
        }
