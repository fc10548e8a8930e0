"""A job from the photos to the folder: what is written, what is refused, what is resumed."""

import errno
import json
import os
import signal
import warnings

import numpy as np
import pytest
from PIL import Image

import ovseg
from ovseg.bulk import Job, ModelChoice, Photo, Plan, Settings, Words, manifest, worker
from ovseg.datasets.io import read_mask
from ovseg.datasets.places import Place
from ovseg.engine import hold_work_dir
from ovseg.errors import SetupError
from ovseg.text import Vocabulary
from tests.bulk.jobs import WORDS, content, make_job, write_photos

FORMATS = ("rle", "png", "coco", "panoptic")


@pytest.fixture
def photos(tmp_path):
    return write_photos(tmp_path / "photos", 10)


def test_labels_are_those_of_segment(tmp_path):
    """Of the real model, several vocabularies from one encoding, at fp32 to the pixel."""
    photos = write_photos(tmp_path / "photos", 3, side=48)
    words = (Words("a", Vocabulary.of(["cat", "grass", "wall"])), Words("b", Vocabulary.of(["sky", "road"]), "sky"))
    choice = ModelChoice(weights="nano", short_side=64, precision="fp32")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        outcome = Job(str(photos), tmp_path / "out", Settings(words, choice, formats=("png",))).run()
        assert (outcome.photos, outcome.failed, outcome.shards, outcome.left) == (3, 0, 1, 0)
        model = ovseg.load(weights="nano", short_side=64, precision="fp32")
        for one in words:
            model.set_vocabulary(one.vocabulary, background=one.background)
            for number, path in enumerate(sorted(photos.iterdir())):
                expected = model.segment(path).labels
                (file,) = (tmp_path / "out").glob(f"shards/*/{one.name}/labels/{number:08d}_*.png")
                assert np.array_equal(read_mask(file), expected)


def test_a_photo_is_encoded_once_for_all_vocabularies(photos, tmp_path):
    job = make_job(photos, tmp_path / "out")
    job.run()
    assert job.segmenter.model.encoded == 10


def test_the_folder_of_a_job(photos, tmp_path):
    (photos / "0003.png").write_bytes(b"no photo")
    (photos / "readme.md").write_text("about")
    job = make_job(photos, tmp_path / "out", formats=FORMATS)
    told, done = [], []
    outcome = job.run(tell=told.append, done=lambda shard, counts: done.append((shard.number, counts["failed"])))
    assert job.listing.notes == ("left out, no photos by their names: 1 x .md",)
    assert (outcome.photos, outcome.failed, outcome.shards, outcome.new) == (10, 1, 3, 10) and sum(told) == 10
    assert done == [(0, 1), (1, 0), (2, 0)]
    found = manifest.read_manifest(tmp_path / "out/shards/00000000")
    assert found["counts"] == {"photos": 4, "done": 3, "failed": 1}
    assert [photo["name"] for photo in found["photos"]] == [f"{n:04d}.png" for n in range(4)]
    assert "not a picture" in found["photos"][3]["error"] and "height" not in found["photos"][3]
    sizes = [photo["height"] * photo["width"] for photo in found["photos"][:3]]
    assert sum(found["pixels"]["greys"]) == sum(found["pixels"]["halves"]) == sum(sizes)
    assert found["shard"]["hash"] == job.plan[0].hash
    made = json.loads((tmp_path / "out/bulk.json").read_text())
    assert made["plan"]["hash"] == job.plan.hash and made["made_with"] == found["made_with"]
    assert made["made_with"]["vocabularies"]["halves"]["names"] == ["left", "right"]
    assert {"ovseg", "torch", "pyarrow"} <= set(made["made_with"]["versions"])
    for name in found["files"]:
        assert manifest.sha256(tmp_path / "out/shards/00000000" / name) == found["files"][name]["sha256"]
    assert not list((tmp_path / "out").rglob("*.part*"))


def test_two_folders_are_equal_to_the_byte(photos, tmp_path):
    (photos / "0005.png").write_bytes(b"")
    for name in ("a", "b"):
        make_job(photos, tmp_path / name, formats=FORMATS).run()
    assert content(tmp_path / "a") == content(tmp_path / "b")
    assert len(content(tmp_path / "a")) == 2 + 3 * (1 + 2 * 3) + 2 * 2 * 9


def test_the_plan_is_a_function_of_the_names():
    names = [f"{n}.jpg" for n in range(10)]
    photos = [Photo(name, Place(f"a/{name}")) for name in names]
    plan, again = Plan(photos, 4), Plan([Photo(name, Place("s.tar", start=512)) for name in names], 4)
    assert len(plan) == 3 and [len(shard.photos) for shard in plan] == [4, 4, 2] and plan[2].first == 8
    assert plan.hash == again.hash and [s.hash for s in plan] == [s.hash for s in again]
    assert len({plan.hash, Plan(photos, 5).hash, Plan(photos[::-1], 4).hash, Plan(photos[:-1], 4).hash}) == 4
    with pytest.raises(IndexError):
        plan[3]
    with pytest.raises(SetupError, match="at least 1"):
        Plan(photos, 0)


def test_finished_shards_are_not_done_again(photos, tmp_path):
    out = tmp_path / "out"
    make_job(photos, out).run()
    before = content(out)
    job, begun = make_job(photos, out), []
    outcome = job.run(begin=lambda photos, finished: begun.append((photos, finished)))
    assert (outcome.new, outcome.photos, begun) == (0, 10, [(10, 10)]) and job.segmenter.model.encoded == 0
    (out / "shards/00000001/greys/rle.parquet").unlink()
    (out / "shards/.00000002.999999.part").mkdir()
    notes = []
    outcome = make_job(photos, out).run(note=notes.append)
    assert outcome.new == 4 and content(out) == before and "rle.parquet is missing" in notes[0]
    assert not list(out.rglob("*.part"))


def test_changed_bytes_are_found_by_their_hash(photos, tmp_path):
    out = tmp_path / "out"
    make_job(photos, out).run()
    before, path = content(out), out / "shards/00000001/greys/rle.parquet"
    data = bytearray(path.read_bytes())
    data[20] ^= 1
    path.write_bytes(data)
    assert make_job(photos, out).run().new == 0
    assert "cannot be read" in (out / "index.html").read_text()
    assert make_job(photos, out).run(verify=True).new == 4 and content(out) == before
    (out / "shards/00000000/manifest.json").write_text("{}")
    assert make_job(photos, out).run().new == 4 and content(out) == before


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"photos_per_shard": 5}, "plan.photos_per_shard: 4 then, 5 now"),
        ({"formats": ("png",)}, 'made_with.formats: ["rle"] then, ["png"] now'),
        ({"words": WORDS[:1]}, "made_with.vocabularies.halves"),
        ({"batch": 2}, "made_with.batch: 4 then, 2 now"),
    ],
)
def test_another_job_in_the_folder_is_refused_with_what_differs(photos, tmp_path, change, said):
    make_job(photos, tmp_path / "out").run()
    before = content(tmp_path / "out")
    with pytest.raises(SetupError) as error:
        make_job(photos, tmp_path / "out", **change).run()
    assert said in str(error.value) and content(tmp_path / "out") == before
    with pytest.raises(SetupError, match="other settings"):
        make_job(photos, tmp_path / "out", **change).begun()


def test_other_photos_and_foreign_folders_are_refused(photos, tmp_path):
    make_job(photos, tmp_path / "out").run()
    write_photos(photos, 11)
    with pytest.raises(SetupError, match="plan.photos: 10 then, 11 now"):
        make_job(photos, tmp_path / "out").run()
    (tmp_path / "other").mkdir()
    (tmp_path / "other/thesis.tex").write_text("")
    with pytest.raises(SetupError, match="holds no bulk job"):
        make_job(photos, tmp_path / "other").run()
    with pytest.raises(SetupError, match="take results for photos"):
        make_job(photos, photos / "out")


def test_two_runs_in_one_folder_are_refused(photos, tmp_path):
    with hold_work_dir(tmp_path / "out"), pytest.raises(SetupError, match=r"in use by another run.*--out"):
        make_job(photos, tmp_path / "out").run()


def test_a_full_disk_is_one_error_and_keeps_what_is_finished(photos, tmp_path, monkeypatch):
    out, write = tmp_path / "out", worker.write_manifest

    def full(stage, found):
        if found["shard"]["number"] == 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(stage, found)

    monkeypatch.setattr(worker, "write_manifest", full)
    with pytest.raises(SetupError, match=r"disk is full.*2 of 3 shards are finished and kept"):
        make_job(photos, out).run()
    assert not list(out.rglob("*.part"))
    monkeypatch.undo()
    assert make_job(photos, out).run().new == 2
    make_job(photos, tmp_path / "whole").run()
    assert content(out) == content(tmp_path / "whole")


def test_an_output_folder_that_cannot_be_made(photos, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(SetupError, match="cannot write to output folder"):
        make_job(photos, tmp_path / "file" / "out").run()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_finishes_the_shard(photos, tmp_path, number):
    out, told = tmp_path / "out", []

    def tell(photos):
        told.append(photos)
        if len(told) == 6:  # in the second shard
            os.kill(os.getpid(), number)

    outcome = make_job(photos, out).run(tell=tell)
    assert (outcome.shards, outcome.left, outcome.photos) == (2, 1, 8)
    assert sorted(p.name for p in (out / "shards").iterdir()) == ["00000000", "00000001"]
    assert make_job(photos, out).run().new == 2


def test_a_photo_that_the_model_fails_on_is_recorded(photos, tmp_path):
    Image.new("RGB", (6, 6), (255, 0, 0)).save(photos / "0002.png")
    outcome = make_job(photos, tmp_path / "out").run()
    assert outcome.failed == 1
    record = manifest.read_manifest(tmp_path / "out/shards/00000000")["photos"][2]
    assert record == {"number": 2, "name": "0002.png", "error": "RuntimeError: no memory for this photo"}


def test_a_model_that_fails_on_all_photos_ends_the_run(photos, tmp_path):
    for number in range(4, 8):
        Image.new("RGB", (6, 6), (255, 0, 0)).save(photos / f"{number:04d}.png")
    with pytest.raises(SetupError, match=r"failed on every photo of shard 1.*no memory"):
        make_job(photos, tmp_path / "out").run()
    assert [p.name for p in (tmp_path / "out/shards").iterdir()] == ["00000000"]


def test_an_estimate_writes_nothing(photos, tmp_path):
    job = make_job(photos, tmp_path / "out")
    found = job.estimate()
    assert found.measured == 8 and found.seconds == pytest.approx(found.seconds_per_photo * 10)
    assert found.bytes_per_photo > 0 and not (tmp_path / "out").exists()
    job.run()
    assert job.estimate().seconds == 0 and len(job.begun()) == 3


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"formats": ("bmp",)}, "'bmp' is none"),
        ({"formats": ()}, "is none"),
        ({"words": ()}, "names that differ"),
        ({"words": (WORDS[0], WORDS[0])}, "names that differ"),
        ({"words": (Words("../x", WORDS[0].vocabulary),)}, "letters, digits"),
        ({"batch": 0}, "batch 0"),
        ({"photos_per_shard": 0}, "0 photos per shard"),
    ],
)
def test_settings_that_are_none(photos, tmp_path, settings, said):
    with pytest.raises(SetupError, match=said):
        make_job(photos, tmp_path / "out", **settings)
