"""Two evaluations, class by class."""

import json

import pytest

from tools.compare_results import compared, main


def result(path, values):
    path.write_text(json.dumps({"per_class": [{"name": n, "iou": v} for n, v in values.items()]}))
    return str(path)


def test_own_classes_and_others_are_told_apart(tmp_path, capsys):
    before = result(tmp_path / "a.json", {"cat": 40.0, "dog": 60.0, "sea": 50.0, "sky": None})
    after = result(tmp_path / "b.json", {"cat": 70.0, "dog": 62.0, "sea": 45.0, "sky": 10.0})
    (tmp_path / "own.txt").write_text("cat\ndog\n")
    assert main([before, after, "--own", str(tmp_path / "own.txt")]) == 0
    out = capsys.readouterr().out
    assert "+16.0" in out and "-5.0" in out and "+30.0" in out


def test_means_are_over_classes_that_both_have():
    found = compared({"cat": 40.0, "dog": 60.0, "sea": 1.0}, {"cat": 50.0, "dog": 50.0}, ["dog"])
    assert found == {"all": (50.0, 50.0, 2), "own": (60.0, 50.0, 1), "others": (40.0, 50.0, 1)}


@pytest.mark.parametrize(("own", "message"), [(None, "both results"), (["bus"], "--own is in both results")])
def test_nothing_to_compare_is_told(own, message):
    after = {"dog": 1.0} if own is None else {"cat": 1.0}
    with pytest.raises(ValueError, match=message):
        compared({"cat": 1.0}, after, own)
