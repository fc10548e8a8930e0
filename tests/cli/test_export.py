"""``ovseg export``, and the scripts that run what it writes without torch."""

import functools
import http.server
import json
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ovseg import Segmenter
from ovseg.cli import main

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("arguments", (["--out", "a.txt"], ["--out", "a.pt2", "--int8"]))
def test_wrong_names(arguments, capsys):
    assert main(["export", *arguments]) == 2
    assert arguments[1] in capsys.readouterr().err


def test_what_has_no_graph(tmp_path, capsys):
    assert main(["export", "--method", "trident", "--out", str(tmp_path / "a.onnx")]) == 2
    assert "cannot be exported" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def run_numpy(model: Path, photo: Path, labels: Path, words: Path | None = None) -> tuple[np.ndarray, list[str]]:
    """Labels and printed lines of the script that needs numpy alone, where torch cannot be imported."""
    guard = "import sys, runpy; sys.modules['torch'] = None; del sys.argv[0]; runpy.run_path(sys.argv[0])"
    files = [model, words or f"{model}.words.json", photo, labels]
    command = [sys.executable, "-c", guard, ROOT / "demo" / "onnx_numpy.py", *files]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return np.asarray(Image.open(labels)), done.stdout.splitlines()


def test_numpy_runs_what_was_exported(tmp_path):
    pytest.importorskip("onnxruntime", reason="the extra `export` is not installed")
    pytest.importorskip("onnxscript", reason="the extra `export` is not installed")
    out = tmp_path / "maskclip.onnx"
    words = "dog; puppy, red apple, grass"
    assert (
        main(["export", "--model", "nano", "--method", "maskclip", "--out", str(out), "--classes", words, "--int8"])
        == 0
    )
    photo = np.zeros((90, 130, 3), np.uint8)
    photo[:, 60:] = (30, 160, 40)
    Image.fromarray(photo).save(tmp_path / "photo.png")
    for name in ("maskclip.onnx", "maskclip.int8.onnx"):
        words_file = tmp_path / "maskclip.onnx.words.json"
        labels, printed = run_numpy(tmp_path / name, tmp_path / "photo.png", tmp_path / "labels.png", words_file)
        assert {line.split(maxsplit=1)[1] for line in printed} == {"dog", "red apple", "grass"}
        assert labels.shape == (90, 130) and labels.max() <= 2
    words = json.loads((tmp_path / "maskclip.onnx.words.json").read_text())
    assert (words["names"], words["word_to_class"]) == (["dog", "red apple", "grass"], [0, 0, 1, 2])
    assert words["settings"]["weights"] == "nano"


@pytest.mark.slow
def test_numpy_gives_a_photo_the_labels_of_the_segmenter(tmp_path):
    """With the default model, its windows and its background."""
    pytest.importorskip("onnxscript", reason="the extra `export` is not installed")
    words = ["sheep", "grass", "tree", "person", "background"]
    out = tmp_path / "sclip.onnx"
    assert main(["export", "--method", "sclip", "--out", str(out), "--classes", ", ".join(words)]) == 0
    segmenter = Segmenter(method="sclip", device="cpu", precision="fp32")
    segmenter.set_vocabulary(words)
    for name in ("000000012062.jpg", "000000012280.jpg"):
        photo = ROOT / "data" / "photos" / "images" / name
        labels, printed = run_numpy(out, photo, tmp_path / "labels.png")
        expected = segmenter.segment(photo)
        assert sorted(line.split(maxsplit=1)[1] for line in printed) == sorted(expected.names)
        assert (labels == expected.labels).mean() > 0.95  # pillow and OpenCV round pixels differently


BROWSER = shutil.which("chromium") or shutil.which("google-chrome")


@pytest.mark.slow
def test_a_browser_runs_what_was_exported(tmp_path):
    """Same labels in a page (onnxruntime-web) as in numpy. Needs chromium, npm and its registry."""
    api = pytest.importorskip("playwright.sync_api", reason="the extra `test-web` is not installed")
    pytest.importorskip("onnxscript", reason="the extra `export` is not installed")
    if BROWSER is None or shutil.which("npm") is None:
        pytest.skip("no chromium or no npm on this machine")
    page_folder = tmp_path / "page"
    shutil.copytree(ROOT / "demo" / "onnx_web", page_folder, ignore=shutil.ignore_patterns("node_modules"))
    subprocess.run(["npm", "install", "--silent", "--no-audit", "--no-fund"], cwd=page_folder, check=True)
    out = page_folder / "model.onnx"
    assert (
        main(
            ["export", "--model", "nano", "--method", "sclip", "--out", str(out), "--classes", "dog, red apple, grass"]
        )
        == 0
    )
    scene = ROOT / "data" / "scenes" / "scenes" / "images" / "0003.jpg"
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(page_folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server, api.sync_playwright() as driver:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        browser = driver.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        page = browser.new_page()
        page.goto(f"http://127.0.0.1:{server.server_port}/")
        page.wait_for_function("document.getElementById('state').textContent == 'choose a photo'", timeout=120_000)
        page.set_input_files("#photo", scene)
        page.wait_for_function("window.result !== undefined", timeout=120_000)
        found = page.evaluate("window.result")
        legend = page.inner_text("#legend")
        page.set_input_files("#photo", {"name": "a.jpg", "mimeType": "image/jpeg", "buffer": b"no photo"})
        page.wait_for_function("document.getElementById('state').textContent.includes('cannot be segmented')")
        browser.close()
        server.shutdown()
    labels, printed = run_numpy(out, scene, tmp_path / "labels.png")
    assert (found["height"], found["width"]) == labels.shape
    assert (np.array(found["labels"]).reshape(labels.shape) == labels).mean() > 0.99
    assert printed[0].split(maxsplit=1)[1] in legend.splitlines()[0]
