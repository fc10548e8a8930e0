"""The same plan on Ray Data."""

import pickle
import signal
import sys

import pytest

from ovseg.bulk import Job, ModelChoice, Settings, Words, cluster, manifest
from ovseg.bulk.worker import Worker
from ovseg.errors import SetupError
from ovseg.text import Vocabulary
from tests.bulk.jobs import content, make_job, write_photos
from tests.bulk.test_kills import photos_once


def test_without_ray_it_says_what_to_install(tmp_path, monkeypatch):
    photos = write_photos(tmp_path / "photos", 4)
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(SetupError, match=r"ovseg\[scale\]"):
        make_job(photos, tmp_path / "out").run(ray=True)
    make_job(photos, tmp_path / "out").run()
    assert make_job(photos, tmp_path / "out").run(ray=True).new == 0  # nothing left to do: Ray is not asked


def test_an_actor_does_what_a_process_does(tmp_path, monkeypatch):
    """The row that comes in is a shard, the row that goes out its counts; the files are those of a run here."""
    photos = write_photos(tmp_path / "photos", 8)
    one, other = make_job(photos, tmp_path / "one"), make_job(photos, tmp_path / "other")
    one.run()
    monkeypatch.setattr(cluster, "Worker", lambda task: worker_of(task, other.segmenter))
    actor = cluster.ShardActor(other._task(tmp_path / "other", 1, other.made_with()))
    for shard in other.plan:
        row = actor({"number": shard.number, "shard": pickle.dumps(shard)})
        assert row == {"number": shard.number, "photos": 4, "done": 4, "failed": 0, "bytes": row["bytes"]}
    files = {name: data for name, data in content(tmp_path / "one").items() if name.startswith("shards")}
    assert content(tmp_path / "other") == files and len(files) == 6


def test_a_shard_that_is_there_is_told_and_not_done_again(tmp_path, monkeypatch):
    """An actor that got SIGTERM committed it, and Ray gives it out once more."""
    job = make_job(write_photos(tmp_path / "photos", 8), tmp_path / "out")
    monkeypatch.setattr(cluster, "Worker", lambda task: worker_of(task, job.segmenter))
    actor = cluster.ShardActor(job._task(tmp_path / "out", 1, job.made_with()))
    rows = [{"number": shard.number, "shard": pickle.dumps(shard)} for shard in job.plan]
    first, encoded = actor(rows[0]), job.segmenter.model.encoded
    assert actor(rows[0]) == first and job.segmenter.model.encoded == encoded == 4
    actor(rows[1])
    assert job.segmenter.model.encoded == 8
    shard = next(iter(job.plan))
    assert manifest.committed(tmp_path / "out", shard)["photos"] == 4
    (tmp_path / "out/shards/00000000/greys/rle.parquet").write_bytes(b"")
    assert manifest.committed(tmp_path / "out", shard) is None
    assert manifest.committed(tmp_path / "elsewhere", shard) is None


def worker_of(task, segmenter):
    return Worker(task, segmenter)


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_five_killed_actors_change_nothing(tmp_path, how):
    """The real model nano on a cluster of this machine; after five shards an actor is killed, or told to end."""
    pytest.importorskip("ray", reason="the extra `scale` is not installed")
    psutil = pytest.importorskip("psutil")
    photos = write_photos(tmp_path / "photos", 96, side=96)
    words = [Words("a", Vocabulary.of(["cat", "grass", "sky"]))]
    choice = ModelChoice(weights="nano", short_side=64, precision="fp32")
    settings = Settings(words, choice, photos_per_shard=4, formats=("rle", "png"), threads=1)
    Job(str(photos), tmp_path / "one", settings).run()
    killed: set[int] = set()

    def is_actor(process) -> bool:
        try:
            return "ShardActor" in " ".join(process.cmdline()) and process.pid not in killed
        except psutil.Error:  # it has just ended
            return False

    def done(shard, counts):
        for actor in [p for p in psutil.Process().children(recursive=True) if len(killed) < 5 and is_actor(p)][:1]:
            killed.add(actor.pid)
            actor.send_signal(how)

    outcome = Job(str(photos), tmp_path / "out", settings).run(workers=2, ray=True, done=done)
    assert len(killed) == 5 and (outcome.photos, outcome.left) == (96, 0)
    assert content(tmp_path / "out") == content(tmp_path / "one")
    assert photos_once(tmp_path / "out") == [f"{n:04d}.png" for n in range(96)]
