"""Outlines of the embedded scenes' true maps."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from ovseg.results import SegmentationResult

MASKS = sorted((Path(__file__).parents[2] / "data" / "scenes" / "scenes" / "masks").iterdir())[::24]


@pytest.mark.parametrize("path", MASKS, ids=lambda path: path.stem)
def test_polygons_of_a_scene_are_its_map(path):
    """By our own reader exactly; by pycocotools, whose rule at edges is another, to 99 % of every class."""
    labels = np.array(Image.open(path)).astype(np.uint16)
    names = tuple(f"class {i}" for i in range(int(labels.max()) + 1))
    made = SegmentationResult(labels, names)
    assert np.array_equal(SegmentationResult.from_polygons(made.to_polygons(), names, labels.shape).labels, labels)
    for annotation in made.to_coco(polygons=True):
        code = coco_mask.merge(coco_mask.frPyObjects(annotation["segmentation"], *labels.shape))
        drawn, wanted = coco_mask.decode(code).astype(bool), labels == annotation["category_id"]
        assert (drawn & wanted).sum() / (drawn | wanted).sum() >= 0.99
