"""The words of a model and the classes of a data set are compared before the start."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from mmengine.config import Config

from ovseg.datasets import SegmentationDataset
from ovseg.datasets.check import check_dataset
from ovseg.engine import EvalRunner, SetupError
from ovseg.engine.class_words import check_model, match_words
from ovseg.text import Vocabulary
from tests.datasets.fixtures import save
from tests.engine.conftest import CONFIGS

THREE = ("background", "cat", "dog")


@pytest.fixture
def evaluate(tmp_path):
    """Evaluates the brightness model on a data set of two photos; returns the runner and ``result.json``."""

    def run(labels=(0, 1, 255), classes=THREE, num_classes=None, vocabulary=None, **options):
        for name in ("a", "b"):
            save(tmp_path / "data/images" / f"{name}.png", np.full((4, 6, 3), 90, np.uint8))
            save(tmp_path / "data/masks" / f"{name}.png", np.resize(np.array(labels, np.uint8), (4, 6)))
        dataset = dict(classes=list(classes), data_root=str(tmp_path / "data"), img_suffix=".png", **options)
        model = dict(type="BrightnessModel", num_classes=len(classes), vocabulary=vocabulary)
        path = tmp_path / "mine.py"
        path.write_text(
            f"_base_ = ['{CONFIGS}/datasets/_common.py', '{CONFIGS}/runtime/eval.py']\n"
            "custom_imports = dict(imports=['tests.engine.fake_model'], allow_failed_imports=False)\n"
            f"short_side = 4\nnum_classes = {num_classes or len(classes)}\nmodel = {model!r}\n"
            f"test_dataloader = dict(num_workers=0, dataset={dataset!r})\n"
        )
        cfg = Config.fromfile(path)
        cfg.work_dir = str(tmp_path / "work")
        cfg.experiment_name = tmp_path.name  # else runs of one second share MMEngine's log file
        runner = EvalRunner.from_cfg(cfg)
        runner.test()
        return runner, json.loads((tmp_path / "work/result.json").read_text())

    return run


@pytest.mark.parametrize(
    ("vocabulary", "message"),
    [
        (["background", "cat"], r"has 2 classes \(background, cat\), the data set 3 \(background, cat, dog\)"),
        (["background", "dog", "cat"], "not in the data set's order: its class 1 is 'dog', which is class 2"),
        (["cat", "dog", "background"], "not in the data set's order: its class 0 is 'cat'"),
        (["sky", "lorry", "tree"], "no class of the data set .* has its name among the words"),
        (dict(names=list(THREE), background=1), "background=1 of the vocabulary is 'cat' .* set background=0"),
        ("voc21", "has 21 classes"),
        ("no_such_list", "neither a file nor a packaged name"),
        ("cat . dog .", "Words are given as a list"),
        (dict(names=5), "5 .int. is no list"),
    ],
)
def test_words_of_another_data_set_end_the_run_before_it_starts(evaluate, tmp_path, vocabulary, message):
    log = tmp_path / "seen.txt"
    with pytest.raises((SetupError, FileNotFoundError), match=message):
        evaluate(vocabulary=vocabulary)
    assert not log.exists() and not (tmp_path / "work/result.json").exists()


def test_number_of_classes_and_zero_label(evaluate):
    with pytest.raises(SetupError, match="num_classes=21, but the data set has 3 classes"):
        evaluate(num_classes=21)
    with pytest.raises(SetupError, match="reduce_zero_label=True ignores label 0 .*'background'"):
        evaluate(reduce_zero_label=True)


def test_other_words_are_told_in_log_and_result(evaluate, tmp_path):
    runner, result = evaluate(vocabulary=["background", "kitten; cat", "hound; puppy"])
    assert result["model"]["class_words"] == {"dog": "hound; puppy"}
    log = next((tmp_path / "work").rglob("*.log")).read_text()
    assert "WARNING" in log and "dog <- hound; puppy" in log
    runner, result = evaluate(vocabulary=["background := sky; wall", "cat", "dog := hound"])
    assert result["model"]["class_words"] == {}


def test_names_are_compared_as_people_read_them():
    names = ("dining table", "tv_monitor", "building, edifice")
    assert match_words(Vocabulary.of(["DiningTable", "TV monitor", "edifice"]), names) == {}
    voc = [line.split(";")[0] for line in ("background", *Vocabulary.of("voc21").names[1:])]
    assert match_words(Vocabulary.from_file("voc21", background=0), tuple(voc)) == {}


@pytest.mark.parametrize(
    ("head", "background", "names", "message"),
    [
        (dict(threshold=0.1, background=0), None, ("cat", "dog"), "to class 0, 'cat', but neither"),
        (dict(threshold=0.0, area_threshold=0.1, background=0), None, ("cat", "dog"), "to class 0, 'cat', but neither"),
        (dict(threshold=0.1, background=1), None, ("background", "dog"), "the background is class 0, 'background'"),
        (dict(threshold=0.1, background=0), 1, ("cat", "void"), "the background is class 1, 'void'"),
        (dict(threshold=0.1, background=7), 0, ("background", "dog"), "class 7, which does not exist"),
        (dict(threshold=0.1, background=0), None, ("background", "dog"), None),
        (dict(threshold=0.0, background=0), None, ("cat", "dog"), None),
        (dict(threshold=0.1, background=None), None, ("cat", "dog"), None),
        (dict(threshold=0.1, background=1), 1, ("cat", "rest"), None),
    ],
)
def test_where_thresholds_give_pixels_to(head, background, names, message):
    model = SimpleNamespace(vocabulary=Vocabulary.from_list(names, background=background), head=SimpleNamespace(**head))
    dataset = SimpleNamespace(metainfo=dict(classes=names))
    if message is None:
        assert check_model(model, dataset) == {}
    else:
        with pytest.raises(SetupError, match=message):
            check_model(model, dataset)


# --------------------------------------------------------------------------------------------------- 0 and 255 masks
def test_masks_of_0_and_255_are_told_by_the_evaluation(evaluate, tmp_path):
    two = ("wall", "crack")
    _, result = evaluate(labels=(0, 255), classes=two)
    (note,) = result["data"]["notes"]
    assert "set label_map={255: 1}" in note and "'crack'" in note
    assert note in next((tmp_path / "work").rglob("*.log")).read_text().replace("\n", " ")
    for labels, options in (((0, 255), dict(label_map={255: 1})), ((0, 1), {}), ((0, 1, 255), {}), ((0,), {})):
        _, result = evaluate(labels=labels, classes=two, **options)
        assert result["data"]["notes"] == []
    _, result = evaluate(labels=(0, 255), classes=two, reduce_zero_label=True)
    assert "all are ignored" in result["data"]["notes"][0]


def test_masks_of_0_and_255_are_told_by_the_check(evaluate, tmp_path):
    evaluate(labels=(0, 255), classes=("wall", "crack"))
    base = dict(classes=["wall", "crack"], data_root=str(tmp_path / "data"), img_suffix=".png")
    (problem,) = check_dataset(SegmentationDataset(**base)).problems
    assert "of 2 classes only 'wall' (0) occurs" in problem and "label_map={255: 1}" in problem
    report = check_dataset(SegmentationDataset(**base, label_map={255: 1}))
    assert report.problems == [] and report.absent == []
    save(tmp_path / "data/masks/z.png", np.zeros((4, 6), np.uint8))
    with pytest.warns(UserWarning, match="label maps have no photo"):
        assert "z.png" in check_dataset(SegmentationDataset(**base)).problems[0]


def test_shipped_words_are_told_without_a_warning(evaluate, tmp_path, caplog):
    caplog.set_level(logging.WARNING)
    names = ("background", *Vocabulary.of("voc21_maskclip").names[1:])
    _, result = evaluate(classes=names, vocabulary=dict(file="voc21_corrclip", background=0))
    assert result["model"]["class_words"]["boat"] == "ship" and result["vocabulary"]
    log = next(p for p in Path(tmp_path / "work").rglob("*.log")).read_text()
    assert "boat <- ship" in log and "WARNING" not in log
