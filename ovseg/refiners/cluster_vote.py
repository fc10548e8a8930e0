"""CLIPtrase's clustering: patches that belong together get one label."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from scipy.ndimage import median_filter
from torch import Tensor

from ovseg.heads.evidence import Evidence
from ovseg.ops import region_vote
from ovseg.photo import Photo
from ovseg.registry import REFINERS

UPSAMPLING = 4
MEDIAN = 7
"""Side of the median filter, in pixels of the upsampled cluster maps."""


@REFINERS.register_module()
class ClusterVote:
    """A label refiner: clusters the photo's patches and gives each cluster's area its most frequent label.

    DBSCAN on the rows of the affinity (``photo.affinity``); a cluster's map is the mean row of its members, upsampled
    and smoothed by a median filter; every pixel belongs to the cluster whose map is largest there, also where DBSCAN
    saw noise (CLIPtrase, Shao et al., ECCV 2024). Without any cluster the labels stay.

    Args:
        eps: DBSCAN's radius, Euclidean (0.7 for 224 px, 1.1 for 336 px).
        min_samples: DBSCAN's number of neighbours of a core point, itself included (3 and 7).

    Raises:
        ValueError: for values out of range; at call time if the photo has no affinity.
    """

    def __init__(self, eps: float = 0.7, min_samples: int = 3) -> None:
        if eps <= 0 or min_samples < 1:
            raise ValueError(f"eps is {eps}, min_samples {min_samples}: give a positive radius and at least 1 sample")
        self.eps, self.min_samples = float(eps), int(min_samples)

    def __call__(self, labels: Tensor, photo: Photo, evidence: Evidence) -> Tensor:
        """Labels ``[H, W]`` int32 of the photo -> labels, same shape and type."""
        if photo.affinity is None:
            raise ValueError(
                "ClusterVote needs the patches' affinities: set attention=dict(type='SelfCorrelationAttention') and "
                "stitch=dict(type='AffinityStitch') in the model config"
            )
        regions = self.regions(photo.affinity, tuple(labels.shape))
        return labels if regions is None else region_vote(labels, regions, evidence.num_classes)

    def regions(self, affinity: Tensor, size: tuple[int, int]) -> Tensor | None:
        """Cluster of every pixel, int64 ``[H, W]``, from affinity rows ``[N, h, w]``; ``None`` if all is noise."""
        from sklearn.cluster import DBSCAN  # takes a second to import: only where it is used

        rows = affinity.float().cpu()
        clusters = DBSCAN(eps=self.eps, min_samples=self.min_samples).fit_predict(rows.flatten(1).numpy())
        names = np.unique(clusters[clusters >= 0])
        if not len(names):
            return None
        maps = torch.stack([rows[torch.from_numpy(clusters == name)].mean(0) for name in names])
        maps = F.interpolate(maps[None], scale_factor=UPSAMPLING, mode="bilinear", align_corners=False)[0]
        smooth = np.stack([median_filter(m, size=MEDIAN) for m in maps.numpy()])
        full = F.interpolate(torch.from_numpy(smooth)[None], size=size, mode="bilinear", align_corners=False)[0]
        return full.argmax(0).to(affinity.device)
