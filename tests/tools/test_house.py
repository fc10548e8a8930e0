"""The plan in figures, on a house of four rooms."""

import sys

import pytest

from tools import house


@pytest.fixture
def built(tmp_path, monkeypatch):
    """``small``: kitchen -> cellar, hall -> kitchen and, for type checking, cellar.wine -> hall; attic alone."""
    rooms = {
        "__init__": "",
        "hall": "from small import kitchen\n",
        "kitchen": "def cook():\n    import small.cellar.wine\n",
        "attic": "",
        "cellar/__init__": "from small.cellar import wine\n",
        "cellar/wine": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from small import hall\n",
    }
    for name, text in rooms.items():
        path = tmp_path / "small" / f"{name}.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "small", raising=False)
    return tmp_path


def test_imports_inside_functions_and_for_type_checking_count(built):
    assert house.plan("small") == {
        "modules": 6,
        "rooms": 4,
        "imports between rooms": 3,
        "pairs of rooms": 3,
        "circles": 1,
        "rooms in circles": ["cellar", "hall", "kitchen"],
    }


def test_a_folder_that_is_no_checkout_is_refused(tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        house.main([str(tmp_path)])
    assert stop.value.code == 2 and "give the root of a checkout" in capsys.readouterr().err
