"""The measuring of bulk jobs: rows that say what happened, on few photos."""

import csv

import pytest

from tests.bulk.jobs import write_photos
from tools import measure_bulk


def test_a_soak_tells_memory_and_files_after_each_shard(tmp_path):
    photos = write_photos(tmp_path / "photos", 3, side=48)
    arguments = ["soak", "--photos", str(photos), "--model", "nano", "--short-side", "64", "--count", "40"]
    picture = ["--picture", str(tmp_path / "a.png")]
    with pytest.warns(UserWarning, match="has not learned"):
        assert measure_bulk.main([*arguments, "--csv", str(tmp_path / "a.csv"), *picture]) == 0
    with open(tmp_path / "a.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["photos"]) for row in rows] == [32, 40] and float(rows[0]["memory_mib"]) > 50
    assert int(rows[0]["open_files"]) > 2 and (tmp_path / "a.png").stat().st_size > 1000
