"""Processes that die: whatever is killed when, the results are those of an undisturbed run, byte for byte."""

import functools
import json
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ovseg.bulk import pool, worker
from ovseg.errors import SetupError
from tests.bulk.jobs import Segmenter, content, make_job, write_photos

FORMATS = ("rle", "png", "coco", "panoptic")
FORK = multiprocessing.get_context("fork")


def photos_once(out: Path) -> list[str]:
    """Names of the photos in the manifests."""
    manifests = [json.loads(path.read_text()) for path in sorted(out.glob("shards/*/manifest.json"))]
    return [photo["name"] for manifest in manifests for photo in manifest["photos"]]


def slow(monkeypatch, seconds: float) -> None:
    """Every batch of the stand-in takes so long, so that a kill finds work in hand."""
    encode = Segmenter.encode_batch

    def encode_slowly(self, arrays, names):
        time.sleep(seconds)
        return encode(self, arrays, names)

    monkeypatch.setattr(Segmenter, "encode_batch", encode_slowly)


def test_kills_at_random_moments_change_nothing(tmp_path, monkeypatch):
    """Five processes in a row are killed while they work."""
    photos, out = write_photos(tmp_path / "photos", 40), tmp_path / "out"
    (photos / "0007.png").write_bytes(b"no photo")
    make_job(photos, tmp_path / "whole", formats=FORMATS).run()
    slow(monkeypatch, 0.005)
    moments, kills = random.Random(0), 0
    while kills < 5:
        child = FORK.Process(target=lambda: make_job(photos, out, formats=FORMATS).run())
        child.start()
        child.join(moments.uniform(0.01, 0.06))
        kills += child.is_alive()
        child.kill()
        child.join()
        if child.exitcode == 0:  # finished before: begin again, so that every kill hits
            assert content(out) == content(tmp_path / "whole")
            (out / "bulk.json").unlink()
            subprocess.run(["rm", "-r", str(out)], check=True)
    make_job(photos, out, formats=FORMATS).run()
    assert content(out) == content(tmp_path / "whole")
    assert photos_once(out) == [f"{n:04d}.png" for n in range(40)]


@pytest.fixture
def forked(monkeypatch):
    """Processes are forked and hold the stand-in for a model: no imports, no loading."""
    monkeypatch.setattr(pool.multiprocessing, "get_context", lambda kind: FORK)
    monkeypatch.setattr(pool, "Worker", functools.partial(worker.Worker, segmenter=Segmenter()))


def test_processes_give_the_bytes_of_one(tmp_path, forked):
    photos = write_photos(tmp_path / "photos", 30)
    (photos / "0011.png").write_bytes(b"no photo")
    told = []
    outcome = make_job(photos, tmp_path / "two", formats=FORMATS).run(workers=3, tell=told.append)
    make_job(photos, tmp_path / "one", formats=FORMATS).run()
    assert content(tmp_path / "two") == content(tmp_path / "one")
    assert (outcome.photos, outcome.failed, outcome.new, sum(told)) == (30, 1, 30, 30)


def kill_once(folder: Path, number: int) -> None:
    """This process dies on a shard, the first that comes here by name does."""
    try:
        (folder / f"died_{number}").touch(exist_ok=False)
    except FileExistsError:
        return
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_dead_process_loses_its_shard_to_another(tmp_path, forked, monkeypatch):
    photos, staged = write_photos(tmp_path / "photos", 24), worker.write_manifest

    def die_in_two(stage, found):
        if found["shard"]["number"] in (1, 4):
            kill_once(tmp_path, found["shard"]["number"])
        return staged(stage, found)

    make_job(photos, tmp_path / "whole").run()
    monkeypatch.setattr(worker, "write_manifest", die_in_two)
    told = []
    outcome = make_job(photos, tmp_path / "out").run(workers=2, tell=told.append)
    assert (tmp_path / "died_1").exists() and (tmp_path / "died_4").exists()
    assert (outcome.photos, outcome.left, sum(told)) == (24, 0, 24)
    assert content(tmp_path / "out") == content(tmp_path / "whole")
    assert not list((tmp_path / "out").rglob("*.part"))


def test_a_shard_that_kills_every_process_ends_the_run(tmp_path, forked, monkeypatch):
    photos, staged = write_photos(tmp_path / "photos", 12), worker.write_manifest

    def die(stage, found):
        if found["shard"]["number"] == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return staged(stage, found)

    monkeypatch.setattr(worker, "write_manifest", die)
    with pytest.raises(SetupError, match=r"3 processes died on shard 1, photos 4 \(0004.png\) to 7 \(signal 9"):
        make_job(photos, tmp_path / "out").run(workers=2)
    assert (tmp_path / "out/shards/00000000/manifest.json").exists()


def test_an_error_of_a_process_is_raised_here(tmp_path, forked, monkeypatch):
    photos, staged = write_photos(tmp_path / "photos", 24), worker.write_manifest

    def full(stage, found):
        if found["shard"]["number"] == 2:
            raise OSError(28, "No space left on device")
        return staged(stage, found)

    monkeypatch.setattr(worker, "write_manifest", full)
    with pytest.raises(SetupError, match=r"disk is full.* are finished and kept"):
        make_job(photos, tmp_path / "out").run(workers=2)
    assert not (tmp_path / "out/shards/00000002").exists()


def test_sigterm_lets_processes_finish_their_shards(tmp_path, forked, monkeypatch):
    photos = write_photos(tmp_path / "photos", 40)
    slow(monkeypatch, 0.05)

    def done(shard, counts):
        if shard.number == 2:
            os.kill(os.getpid(), signal.SIGTERM)

    outcome = make_job(photos, tmp_path / "out").run(workers=2, done=done)
    assert 3 <= outcome.shards <= 5 and outcome.left == 10 - outcome.shards
    assert not list((tmp_path / "out").rglob("*.part"))


def test_a_process_that_gets_sigterm_finishes_its_shard(tmp_path, forked, monkeypatch):
    """A cluster's notice to every process of a job: those that work do not lose what is in hand."""
    photos, staged = write_photos(tmp_path / "photos", 24), worker.write_manifest

    def noticed(stage, found):
        (tmp_path / f"pid_{os.getpid()}").touch()
        os.kill(os.getpid(), signal.SIGTERM)
        return staged(stage, found)

    make_job(photos, tmp_path / "whole").run()
    monkeypatch.setattr(worker, "write_manifest", noticed)
    told = []
    outcome = make_job(photos, tmp_path / "out").run(workers=2, tell=told.append)
    assert (outcome.photos, outcome.left) == (24, 0)
    assert min(told) == 0 and len(list(tmp_path.glob("pid_*"))) == 2  # nothing was taken back, nobody was replaced
    assert content(tmp_path / "out") == content(tmp_path / "whole")


@pytest.mark.slow
@pytest.mark.parametrize(("workers", "kills", "count"), [(1, 50, 500), (2, 6, 200)])
def test_fifty_kills_of_the_command(tmp_path, workers, kills, count):
    """The real command with the embedded model nano on 500 photos; with processes, the first one alone is killed."""
    photos = write_photos(tmp_path / "photos", count, side=96)
    arguments = [sys.executable, "-m", "ovseg", "bulk", str(photos), "--classes", "cat, grass, sky", "--model", "nano"]
    arguments += ["--short-side", "64", "--photos-per-shard", "8", "--workers", str(workers), "--format", "rle,png"]

    def start(out: str) -> subprocess.Popen:
        return subprocess.Popen([*arguments, "--out", str(tmp_path / out)], stderr=subprocess.DEVNULL, stdout=-3)

    assert start("whole").wait() == 0
    shards, moments, hits = tmp_path / "out/shards", random.Random(0), 0
    while hits < kills:
        before = len(list(shards.glob("0*"))) if shards.exists() else 0
        process = start("out")
        while process.poll() is None and (len(list(shards.glob("0*"))) if shards.exists() else 0) <= before:
            time.sleep(0.02)
        time.sleep(moments.uniform(0, 0.5))
        hits += process.poll() is None
        process.kill()
        process.wait()
        if before + 1 >= -(-count // 8) - 2:  # nearly finished: begin anew, so that all kills hit work
            subprocess.run(["rm", "-r", str(tmp_path / "out")], check=True)
    assert start("out").wait() == 0
    assert content(tmp_path / "out") == content(tmp_path / "whole")
    assert photos_once(tmp_path / "out") == [f"{n:04d}.png" for n in range(count)]
