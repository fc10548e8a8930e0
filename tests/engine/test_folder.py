"""A folder of one's own becomes the data of a config."""

import numpy as np
import pytest
from PIL import Image

from ovseg.datasets import DatasetNotFound
from ovseg.engine import SetupError, load_config
from ovseg.engine.folder import set_folder
from ovseg.registry import DATASETS

CONFIG = "configs/finetune/catseg_folder.py"


@pytest.fixture
def folder(tmp_path):
    for name in ("images", "masks"):
        (tmp_path / name).mkdir()
    for i in range(25):
        Image.fromarray(np.full((20, 30, 3), i, np.uint8)).save(tmp_path / "images" / f"{i:02}.jpg")
        Image.fromarray(np.full((20, 30), i % 2, np.uint8)).save(tmp_path / "masks" / f"{i:02}.png")
    (tmp_path / "classes.txt").write_text("cat\ndog\n")
    return tmp_path


def names(config, loader):
    dataset = DATASETS.build(config[loader].dataset)
    return [dataset.get_data_info(i)["name"] for i in range(len(dataset))]


def load(options):
    config = load_config(CONFIG, options)
    set_folder(config)
    return config


def options(folder):
    return {"folder.root": str(folder), "folder.classes": str(folder / "classes.txt")}


def test_every_tenth_photo_is_held_back(folder):
    config = load(options(folder))
    held, kept = names(config, "val_dataloader"), names(config, "train_dataloader")
    assert held == ["05", "15"] and len(kept) == 23 and not set(held) & set(kept)
    assert config.model.vocabulary == dict(file=str(folder / "classes.txt"))


def test_own_lists_decide(folder):
    (folder / "train.txt").write_text("00\n03\n")
    (folder / "val.txt").write_text("04\n")
    config = load(options(folder))
    assert names(config, "train_dataloader") == ["00", "03"] and names(config, "val_dataloader") == ["04"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"folder.colour": "red"}, "write dict"),
        ({"folder.classes": None}, "needs root=DIR and classes=FILE"),
        ({"folder.hold_back": 1}, "hold_back from 2"),
    ],
)
def test_what_cannot_be_is_told(folder, change, message):
    with pytest.raises(SetupError, match=message):
        load({**options(folder), **change})


def test_a_folder_that_is_not_there_is_named(folder):
    with pytest.raises(DatasetNotFound, match="/nowhere"):
        load({**options(folder), "folder.root": "/nowhere"})
