"""Downloads against a server on this machine: resumed, checked, and never half a file under its own name."""

import hashlib
import threading

import pytest

from ovseg.weights import CheckpointError, DownloadError, Source
from ovseg.weights.download import download
from ovseg.weights.reading import check_format
from tests.weights.server import serve

CONTENT = bytes(range(256)) * 8_000  # 2 MB
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with serve() as state:
        state.files["/w.pt"] = CONTENT
        yield state


@pytest.fixture
def target(tmp_path):
    return tmp_path / "folder" / "w.pt"


def fetch(server, target, sha256=SHA256, path="/w.pt", **options):
    options = {"pause": 0.0, "progress": False, **options}
    return download(Source(server.url + path, sha256), target, **options)


def leftovers(target):
    return {p.name for p in target.parent.iterdir()} - {f".{target.name}.lock"}


def ranges(server):
    return [headers.get("Range") for _, headers in server.requests]


def test_a_file_is_fetched_and_checked(server, target):
    assert fetch(server, target) == target
    assert target.read_bytes() == CONTENT
    assert leftovers(target) == {"w.pt"}


def test_first_digits_of_a_hash_are_enough(server, target):
    assert fetch(server, target, SHA256[:8]).read_bytes() == CONTENT


def test_a_file_that_is_there_is_not_fetched_again(server, target):
    fetch(server, target)
    fetch(server, target)
    assert len(server.requests) == 1


def test_broken_connections_are_resumed_where_they_broke(server, target):
    server.break_after = [900_000, 500_000]
    fetch(server, target)
    assert target.read_bytes() == CONTENT
    assert ranges(server) == [None, "bytes=900000-", "bytes=1400000-"]
    assert leftovers(target) == {"w.pt"}


def test_a_later_call_continues_what_an_earlier_one_left(server, target):
    server.break_after = [900_000]
    with pytest.raises(DownloadError, match=r"broken off 1 times .*900,000 bytes are kept"):
        fetch(server, target, attempts=1)
    assert not target.exists()
    assert "w.pt.part" in leftovers(target)
    fetch(server, target)
    assert target.read_bytes() == CONTENT
    assert ranges(server)[-1] == "bytes=900000-"


def test_a_server_without_ranges_sends_all_again(server, target):
    server.ranges = False
    server.break_after = [900_000]
    fetch(server, target)
    assert target.read_bytes() == CONTENT


def test_a_file_that_changed_meanwhile_is_fetched_from_its_beginning(server, target):
    server.break_after = [900_000]
    with pytest.raises(DownloadError):
        fetch(server, target, None, attempts=1)
    server.files["/w.pt"], server.etag = CONTENT[::-1], '"v2"'
    fetch(server, target, None)
    assert target.read_bytes() == CONTENT[::-1]


def test_without_etag_and_hash_nothing_is_resumed(server, target):
    server.etag = None
    server.break_after = [900_000]
    fetch(server, target, None)
    assert target.read_bytes() == CONTENT
    assert ranges(server) == [None, None]


def test_a_part_longer_than_the_file_is_thrown_away(server, target):
    target.parent.mkdir()
    target.with_name("w.pt.part").write_bytes(CONTENT + b"more")
    fetch(server, target)
    assert target.read_bytes() == CONTENT


def test_a_complete_part_is_not_fetched_again(server, target):
    target.parent.mkdir()
    target.with_name("w.pt.part").write_bytes(CONTENT)
    fetch(server, target)
    assert target.read_bytes() == CONTENT
    assert ranges(server) == [f"bytes={len(CONTENT)}-"]


@pytest.mark.parametrize("part", [CONTENT[::-1][:1000], b""])
def test_a_wrong_hash_removes_what_arrived(part, server, target):
    target.parent.mkdir()
    target.with_name("w.pt.part").write_bytes(part)
    with pytest.raises(CheckpointError, match=f"has the SHA-256 {'' if part else SHA256}.*it was removed"):
        fetch(server, target, SHA256 if part else "0" * 64)
    assert leftovers(target) == set()


def test_the_hash_that_the_hub_states_is_compared(server, target):
    server.linked_etags["/w.pt"] = SHA256
    assert fetch(server, target, None).read_bytes() == CONTENT
    target.unlink()
    server.linked_etags["/w.pt"] = "0" * 64
    with pytest.raises(CheckpointError, match="has the SHA-256"):
        fetch(server, target, None)
    assert leftovers(target) == set()


def test_a_web_page_is_not_kept(server, target):
    server.files["/w.pt"] = b"<html>Sign in to this wireless network</html>"
    with pytest.raises(CheckpointError, match="what arrived is a web page.*it was removed"):
        fetch(server, target, None, check=check_format)
    assert leftovers(target) == set()


@pytest.mark.parametrize(("status", "hint"), [(404, "HTTP 404"), (401, "set HF_TOKEN"), (403, "set HF_TOKEN")])
def test_refusals_are_not_repeated(status, hint, server, target):
    server.statuses["/w.pt"] = [status] * 5
    with pytest.raises(DownloadError, match=hint):
        fetch(server, target)
    assert len(server.requests) == 1


def test_a_busy_server_is_asked_again(server, target):
    server.statuses["/w.pt"] = [503, 429]
    assert fetch(server, target).read_bytes() == CONTENT


def test_no_server(target):
    with serve() as state:
        url = state.url
    with pytest.raises(DownloadError, match="no connection"):
        download(Source(f"{url}/w.pt"), target, pause=0.0)


def test_a_disk_that_cannot_be_written(server, target):
    target.parent.mkdir()
    target.with_name("w.pt.part").mkdir()
    with pytest.raises(DownloadError, match="cannot be written"):
        fetch(server, target)


def test_two_at_once_fetch_it_once(server, target):
    threads = [threading.Thread(target=fetch, args=(server, target)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert target.read_bytes() == CONTENT
    assert len(server.requests) == 1


def test_the_token_goes_to_the_hub_only(server, target, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "secret")
    fetch(server, target)
    assert all("Authorization" not in headers for _, headers in server.requests)


def test_the_bar_is_drawn_on_stderr(server, target, capsys):
    fetch(server, target, progress=True)
    out, err = capsys.readouterr()
    assert out == ""
    assert "w.pt" in err
