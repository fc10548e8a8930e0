"""tools/measure_photos.py on pictures of its own."""

import csv
import json

import numpy as np
import pytest
import torch
from PIL import Image

from ovseg.cli.nano import evaluation_config
from ovseg.registry import MODELS
from tools import measure_photos
from tools.measure_photos import COCO_NAMES, IGNORE, Masked, Row, label_table, measure, method_labels, photos_of


@pytest.fixture
def photos(tmp_path):
    """Three pictures: background on the left, an aeroplane (1) in the middle, a column that is not judged."""
    found = []
    for i in range(3):
        path = tmp_path / f"{i}.png"
        Image.fromarray(np.full((20, 30, 3), i * 40, dtype=np.uint8)).save(path)
        mask = np.zeros((20, 30), dtype=np.uint8)
        mask[:, 10:20], mask[:, 29] = 1, IGNORE
        found.append(Masked(path, mask.copy))
    return found


class Guesser:
    """Calls everything an aeroplane but a tenth, and counts how often it is asked."""

    def __init__(self):
        self.asked = 0

    def __call__(self, image):
        self.asked += 1
        voc21 = np.ones(image.shape[:2], dtype=np.uint8)
        voc21[:, :3] = 0
        return {"voc21": voc21, "voc20": np.where(voc21 == 0, 5, 0)}


def test_both_protocols_are_read_off_one_pass(tmp_path, photos):
    guesser = Guesser()
    figures = measure(photos, lambda: guesser, tmp_path / "row.jsonl", "a").figures()
    assert guesser.asked == figures["photos"] == 3
    background, aeroplane = 3 / 19, 10 / 26  # columns
    assert figures["voc21"]["IoU"]["background"] == round(100 * background, 1)
    assert figures["voc21"]["mIoU"] == round(50 * (background + aeroplane), 2)
    assert figures["voc20"]["IoU"]["aeroplane"] == 100.0, "background is not judged"
    assert figures["voc20"]["IoU"]["sheep"] is None
    low, high = figures["voc21"]["spread"]
    assert low == high == round(figures["voc21"]["mIoU"], 1), "all photos are the same"


def test_an_interrupted_row_goes_on_and_other_settings_begin_anew(tmp_path, photos):
    file, guesser = tmp_path / "row.jsonl", Guesser()
    measure(photos[:2], lambda: guesser, file, "a")
    whole = measure(photos, lambda: guesser, file, "a")
    assert guesser.asked == 3 and len(whole.seconds) == 3
    measure(photos, lambda: pytest.fail("nothing is left"), file, "a")
    measure(photos[:1], lambda: guesser, file, "b")
    assert guesser.asked == 4 and len(file.read_text().splitlines()) == 2


def test_pictures_are_drawn_of_those_asked_for(tmp_path, photos):
    measure(photos, Guesser, tmp_path / "row.jsonl", "a", tmp_path / "pictures", ["1"])
    assert [path.name for path in (tmp_path / "pictures").iterdir()] == ["1.png"]


def test_names_of_other_data_sets_become_vocs(tmp_path):
    labels = tmp_path / "labels.tsv"
    labels.write_text("0\tperson\n1\tairplane\n2\tsky-other\n3\tplant, flora\n4\tcouch\n255\tIGNORE (unlabeled)\n")
    table = label_table(labels, COCO_NAMES, ["plant"])
    assert table[[0, 1, 2, 3, 4]].tolist() == [15, 1, 0, IGNORE, 18]
    assert (table[5:] == IGNORE).all()


def test_masks_of_coco_stuff_become_those_of_coco100(shared_data):
    coco100 = shared_data / "real_mini" / "coco100"
    table = label_table(coco100 / "labels.tsv", COCO_NAMES)
    same = []
    for path in sorted((coco100 / "masks").iterdir())[:5]:
        own, voc = table[np.asarray(Image.open(path))], np.asarray(Image.open(coco100 / "masks_voc21" / path.name))
        judged = own != IGNORE
        same.append((own == voc)[judged].mean())
    assert min(same) > 0.9, "COCO's things lie over its stuff in slightly other outlines"


def test_the_labels_are_those_of_both_evaluation_configs(tmp_path):
    photo = np.asarray(Image.open(photos_of("photos", tmp_path)[4].path).convert("RGB"))[:160, :200]
    labels = method_labels(evaluation_config("naclip", "photos", tmp_path, None, 0), None, "fp32")(photo)
    from ovseg import Segmenter

    for split, protocol in (("photos", "voc21"), ("coco100_voc20", "voc20")):
        config = evaluation_config("naclip", split, tmp_path, None, 0)
        resized = Segmenter(config=config, precision="fp32")._photo(photo, photo)
        model = MODELS.build(config.model).eval()
        with torch.no_grad():
            expected = model.predict([resized])[0]
        np.testing.assert_array_equal(labels[protocol], expected.numpy())
    assert len(np.unique(labels["voc21"])) > 1, "one label everywhere would prove nothing"


def test_a_row_of_sparse_lines_is_the_matrix():
    matrix = torch.zeros(21, 21, dtype=torch.int64)
    matrix[0, 3], matrix[20, 20] = 5, 2
    row = Row()
    row.add({"voc21": measure_photos.sparse(matrix), "voc20": [[], [], []], "seconds": 0.5})
    np.testing.assert_array_equal(row.matrices["voc21"][0], matrix.numpy())
    assert json.dumps(measure_photos.sparse(matrix)) == "[[0, 20], [3, 20], [5, 2]]"


def test_figures_as_a_table(tmp_path):
    one = {"mIoU": 40.0, "spread": [30.0, 50.0], "IoU": {"cat": 80.0, "dog": 0.0}}
    both = {"mIoU": 30.0, "spread": [20.0, 40.0], "IoU": {"background": 10.0, "cat": 80.0, "dog": 0.0}}
    figures = {"photos": 3, "seconds": 0.25, "voc20": one, "voc21": both}
    measure_photos.write_csv(tmp_path / "out.csv", {"naclip": figures, "teacher": figures})
    with (tmp_path / "out.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(r["row"], r["protocol"]) for r in rows] == [
        (name, protocol) for name in ("naclip", "teacher") for protocol in ("voc20", "voc21")
    ]
    assert rows[0]["background"] == "" and rows[1]["background"] == "10.0" and rows[3]["cat"] == "80.0"
    assert (rows[0]["seconds"], rows[0]["low"], rows[0]["high"]) == ("0.25", "30.0", "50.0")
