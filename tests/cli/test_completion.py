"""``ovseg completion``: scripts that the shells accept and that know the commands."""

import shutil
import subprocess

import pytest

from ovseg.cli import commands, main


@pytest.mark.parametrize("shell", ["bash", "tcsh", "zsh"])
def test_scripts_name_all_commands(shell, capsys, tmp_path):
    assert main(["completion", shell]) == 0
    script = capsys.readouterr().out
    assert all(name in script for name in commands())
    assert ("--out" if shell == "tcsh" else "--classes") in script, "tcsh knows options by what their values are"
    if shutil.which(shell) is None:
        pytest.skip(f"no {shell} on this machine to read the script")
    (tmp_path / "script").write_text(script)
    subprocess.run([shell, "-n", str(tmp_path / "script")], check=True)


def test_bash_completes(capsys, tmp_path):
    if shutil.which("bash") is None:
        pytest.skip("no bash on this machine")
    assert main(["completion", "bash"]) == 0
    (tmp_path / "script").write_text(capsys.readouterr().out)
    (tmp_path / "photo.jpg").touch()

    def complete(*words):
        quoted = " ".join(f"'{word}'" for word in words)
        ask = (
            f"source ./script; COMP_WORDS=({quoted}); COMP_CWORD={len(words) - 1}; _shtab_ovseg; echo ${{COMPREPLY[@]}}"
        )
        done = subprocess.run(["bash", "-c", ask], capture_output=True, text=True, cwd=tmp_path, check=True)
        return done.stdout.split()

    assert complete("ovseg", "ex") == ["explain", "export"]
    assert complete("ovseg", "segment", "--form") == ["--format"]
    assert complete("ovseg", "completion", "z") == ["zsh"]
    assert complete("ovseg", "weights", "fe") == ["fetch"]
    assert complete("ovseg", "segment", "pho") == ["photo.jpg"]
