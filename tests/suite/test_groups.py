"""Means over groups of data sets, as further columns of a suite's table."""

import json

import pytest

from ovseg.errors import SetupError
from ovseg.suite import read_suite
from ovseg.suite.cells import Cell
from ovseg.suite.tables import html_page, markdown, write_tables

TEXT = """
methods: [clip, naclip]
datasets: [voc21, photos, ade20k]
groups: {{pair: [voc21, photos], all: [pair, ade20k]{more}}}
published: {{paper: {{pair: 31.5, ade20k: 7}}}}
"""


@pytest.fixture
def suite(tmp_path):
    path = tmp_path / "suite.yaml"
    path.write_text(TEXT.format(more=""))
    return read_suite(path)


def test_means_stand_in_every_table(suite, tmp_path):
    values = {"clip": (10.0, 20.0, 40.0), "naclip": (12.0, None, 50.0)}
    cells = [
        Cell(method, data.name, mIoU=value)
        for method, row in values.items()
        for data, value in zip(suite.datasets, row, strict=True)
    ]
    lines = [line.split(" | ") for line in markdown(suite, cells).splitlines()]
    rows = {line[0]: [part.strip(" |") for part in line[-2:]] for line in lines if len(line) == 6}
    assert rows == {
        "| method": ["pair", "all"],
        "| clip": ["15.00", "27.50"],
        "| naclip": ["-", "-"],
        "| *paper*": ["31.5", "-"],
    }
    assert '<span class="big">27.50</span>' in html_page(suite, cells)
    found = json.loads(write_tables(suite, cells, tmp_path)["json"].read_text())
    assert found["groups"] == {"clip": {"pair": 15.0, "all": 27.5}, "naclip": {"pair": None, "all": None}}


@pytest.mark.parametrize(
    ("more", "fault"),
    [
        (", voc21: [photos]", "groups: voc21"),
        (", none: []", "groups: none"),
        (", far: [elsewhere]", "'elsewhere' is not in the suite"),
        (", first: [later], later: [voc21]", "'later' is not in the suite"),
    ],
)
def test_groups_that_are_none(tmp_path, more, fault):
    path = tmp_path / "suite.yaml"
    path.write_text(TEXT.format(more=more))
    with pytest.raises(SetupError, match=fault):
        read_suite(path)
