"""Arguments that several commands share."""

import argparse

import pytest

from ovseg.cli._arguments import add_cfg_options, count, is_first_process, parse_value


@pytest.mark.parametrize(
    "text, value",
    [
        ("448", 448),
        ("-1", -1),
        ("0.5", 0.5),
        ("1e-3", 0.001),
        ("True", True),
        ("false", False),
        ("None", None),
        ("'None'", "None"),
        ("openai/ViT-B-16", "openai/ViT-B-16"),
        ("1,2", [1, 2]),
        ("[1,2]", [1, 2]),
        ("(8,16)", (8, 16)),
        ("(a,b)", ("a", "b")),
        ("[(1,2),(3,4)]", [(1, 2), (3, 4)]),
        ("[(a,2),b]", [("a", 2), "b"]),
        ("[traffic light,parking meter]", ["traffic light", "parking meter"]),
        ("traffic light", "traffic light"),
        ("['a, b', c]", ["a, b", "c"]),
        ('"a,b.txt"', "a,b.txt"),
        ("{'type': 'PAMR', 'iterations': 3}", {"type": "PAMR", "iterations": 3}),
        ("[]", []),
        ("()", ()),
        ("", ""),
        ("person's cat", "person's cat"),
        ("photo (1).jpg", "photo (1).jpg"),
    ],
)
def test_values(text, value):
    found = parse_value(text)
    assert found == value and type(found) is type(value)


@pytest.mark.parametrize("text", ["[1,2", "(1,2", "1,2)", "['a", "[(1,2]"])
def test_brackets_that_do_not_match(text):
    with pytest.raises(ValueError, match="do not match"):
        parse_value(text)


@pytest.mark.parametrize("option", ["short_side", "=3", "model..head=3", "a.=3", "x=[1"])
def test_options_that_are_none_end_in_usage(option, capsys):
    parser = argparse.ArgumentParser()
    add_cfg_options(parser)
    with pytest.raises(SystemExit) as caught:
        parser.parse_args(["--cfg-options", option])
    assert caught.value.code == 2 and option in capsys.readouterr().err


def test_options_given_twice_are_joined():
    parser = argparse.ArgumentParser()
    add_cfg_options(parser)
    args = parser.parse_args(["--cfg-options", "a=1", "b.c=x=y", "--cfg-options", "d=2"])
    assert args.cfg_options == {"a": 1, "b.c": "x=y", "d": 2}


@pytest.mark.parametrize("text", ["0", "-1", "1.5", "x", ""])
def test_counts(text):
    with pytest.raises(argparse.ArgumentTypeError):
        count(text)


@pytest.mark.parametrize(
    "launcher, variable", [("pytorch", "RANK"), ("slurm", "SLURM_PROCID"), ("mpi", "OMPI_COMM_WORLD_RANK")]
)
def test_one_process_speaks_for_all(launcher, variable, monkeypatch):
    for name in ("RANK", "SLURM_PROCID", "OMPI_COMM_WORLD_RANK"):
        monkeypatch.delenv(name, raising=False)
    assert is_first_process(launcher)
    monkeypatch.setenv(variable, "0")
    assert is_first_process(launcher)
    monkeypatch.setenv(variable, "3")
    assert not is_first_process(launcher)
