"""The command line as a whole; its verbs are tested beside what they do."""

import importlib
import subprocess
import sys

import pytest
import torch

from ovseg.cli import main


def test_env(capsys):
    assert main(["env"]) == 0
    out = capsys.readouterr().out
    assert torch.__version__.split("+")[0] in out
    assert "threads" in out and "CUDA" in out and "CuPy" in out
    if hasattr(importlib.import_module("ovseg.ops"), "backend_report"):
        assert "upsample_argmax" in out


@pytest.mark.parametrize("arguments", [[], ["weights"], ["nonsense"], ["weights", "show"]])
def test_wrong_usage(arguments, capsys):
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2


def test_help_does_not_wait_for_torch():
    code = "import sys; sys.argv[0] = 'ovseg'; import ovseg.cli as c\n"
    code += "try: c.main(['weights', '--help'])\nexcept SystemExit: sys.exit('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "fetch" in done.stdout
