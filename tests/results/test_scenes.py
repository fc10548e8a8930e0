"""Outlines of the embedded scenes' true maps."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

import ovseg
from ovseg.results import SegmentationResult

SCENES = Path(__file__).parents[2] / "data" / "scenes" / "scenes"
IMAGES, MASKS = SCENES / "images", sorted((SCENES / "masks").iterdir())[::24]


@pytest.mark.parametrize("path", MASKS, ids=lambda path: path.stem)
def test_polygons_of_a_scene_are_its_map(path):
    """By our own reader exactly; by pycocotools, whose rule at edges is another, to 99 % of every class."""
    labels = np.array(Image.open(path)).astype(np.uint16)
    check(labels, tuple(f"class {i}" for i in range(int(labels.max()) + 1)))


@pytest.fixture(scope="module")
def model_of_847():
    model = ovseg.load("naclip", weights="nano")
    with pytest.warns(UserWarning, match="has not learned"):  # nano knows few of ADE's words
        model.set_vocabulary("ade847")
    return model


@pytest.mark.parametrize("path", MASKS[::3], ids=lambda path: path.stem)
def test_polygons_of_a_scene_with_847_classes_are_its_map(path, model_of_847):
    """True maps with their numbers spread over 847, and what the model makes of the words of ADE20K's full list."""
    names = model_of_847.vocabulary.display_names
    assert len(names) == 847
    spread = np.random.default_rng(0).permutation(847).astype(np.uint16)
    check(spread[np.array(Image.open(path))], names)
    predicted = model_of_847.segment(next(IMAGES.glob(f"{path.stem}.*"))).labels
    assert len(np.unique(predicted)) > 10
    check(predicted, names)


def check(labels, names):
    made = SegmentationResult(labels, names)
    assert np.array_equal(SegmentationResult.from_polygons(made.to_polygons(), names, labels.shape).labels, labels)
    for annotation in made.to_coco(polygons=True):
        code = coco_mask.merge(coco_mask.frPyObjects(annotation["segmentation"], *labels.shape))
        drawn, wanted = coco_mask.decode(code).astype(bool), labels == annotation["category_id"]
        assert (drawn & wanted).sum() / (drawn | wanted).sum() >= 0.99
