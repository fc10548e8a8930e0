"""``ovseg export``, and the scripts that run what it writes without torch."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

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


def test_numpy_runs_what_was_exported(tmp_path):
    pytest.importorskip("onnxruntime", reason="the extra `export` is not installed")
    pytest.importorskip("onnxscript", reason="the extra `export` is not installed")
    out = tmp_path / "maskclip.onnx"
    words = "dog; puppy, red apple, grass"
    assert main(["export", "--method", "maskclip", "--out", str(out), "--classes", words, "--int8"]) == 0
    photo = np.zeros((90, 130, 3), np.uint8)
    photo[:, 60:] = (30, 160, 40)
    Image.fromarray(photo).save(tmp_path / "photo.png")
    script = ROOT / "demo" / "onnx_numpy.py"
    run = "del sys.argv[0]; runpy.run_path(sys.argv[0], None, '__main__')"
    guard = f"import sys, runpy; sys.modules['torch'] = None; {run}"
    for name in ("maskclip.onnx", "maskclip.int8.onnx"):
        files = [tmp_path / name, tmp_path / "maskclip.onnx.words.npz", tmp_path / "photo.png", tmp_path / "labels.png"]
        done = subprocess.run([sys.executable, "-c", guard, script, *files], capture_output=True, text=True, check=True)
        assert "red apple" in done.stdout and "dog" in done.stdout
        labels = np.asarray(Image.open(tmp_path / "labels.png"))
        assert labels.shape == (90, 130) and labels.max() <= 2
    import onnxruntime

    session = onnxruntime.InferenceSession(str(out))
    assert json.loads(session.get_modelmeta().custom_metadata_map["ovseg"])["weights"] == "nano"
