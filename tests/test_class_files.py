"""Class files of every known kind: read right, or refused with the number of the line."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ovseg.class_files import ClassListError, class_list, read_class_file

RIGHT = {
    "CVAT's label map": (
        "# label:color_rgb:parts:actions\nbackground:0,0,0::\ncat:128,0,0::\ndog:::\n",
        "labelmap.txt",
    ),
    "numbers and colons": ("0: background\n1: cat\n2: dog\n", "c.txt"),
    "numbers and blanks": ("0 background\n1 cat\n2 dog\n", "c.txt"),
    "numbers and commas": ("1,background\n2,cat\n3,dog\n", "c.txt"),
    "numbers and tabs": ("0\tbackground\n1\tcat\n2\tdog\n", "c.tsv"),
    "a numbered list": ("1. background\n2. cat\n3. dog\n", "c.txt"),
    "numbers with brackets": ("1) background\n2) cat\n3) dog\n", "c"),
    "numbers after the names": ("background 0\ncat 1\ndog 2\n", "c.txt"),
    "numbers in another order": ("2: dog\n0: background\n1: cat\n", "c.txt"),
    "numbers with blank lines": ("0 background\n\n1 cat\n\n2 dog\n", "c.txt"),
    "numbers and colours": ("0 background 0 0 0\n1 cat 128 0 0\n2 dog 0 128 0\n", "c.txt"),
    "colours before the names": ("0 0 0\tbackground\n128 0 0\tcat\n0 128 0\tdog\n", "label_colors.txt"),
    "colours after the names": ("background,[0, 0, 0]\ncat,[128, 0, 0]\ndog,[0, 128, 0]\n", "c.csv"),
    "hexadecimal colours": ("background #000000\ncat #800000\ndog #008000\n", "c.txt"),
    "a table with colours": ("name,r,g,b\nbackground,0,0,0\ncat,128,0,0\ndog,0,128,0\n", "class_dict.csv"),
    "a table with numbers": ("Idx\tRatio\tName\n1\t0.5\tbackground\n2\t0.2\tcat\n3\t0.1\tdog\n", "objectInfo.txt"),
    "a header": ("name\nbackground\ncat\ndog\n", "c.txt"),
    "comments": ("# my classes\nbackground\ncat # the animal\n// more\ndog\n", "c.txt"),
    "quotes and commas": ("'background',\n'cat',\n'dog',\n", "c.txt"),
    "bullets": ("- background\n- cat\n- dog\n", "c.txt"),
    "byte order mark, CRLF": ("\ufeffbackground\r\ncat\r\ndog\r\n\r\n", "c.txt"),
    "darknet": ("background\ncat\ndog\n", "coco.names"),
    "JSON list": ('["background", "cat", "dog"]', "c.json"),
    "JSON by number": ('{"0": "background", "2": "dog", "1": "cat"}', "c.json"),
    "JSON by name": ('{"cat": 1, "background": 0, "dog": 2}', "c.json"),
    "id2label": ('{"id2label": {"0": "background", "1": "cat", "2": "dog"}}', "config.json"),
    "COCO's categories": (
        '{"categories": [{"id": 1, "name": "background"}, {"id": 2, "name": "cat"}, {"id": 3, "name": "dog"}]}',
        "c.json",
    ),
    "YAML list": ("- background\n- cat\n- dog\n", "c.yaml"),
    "ultralytics": ("path: x\nnames:\n  0: background\n  1: cat\n  2: dog\n", "data.yaml"),
    "a Python list in a text file": ("['background', 'cat', 'dog',]", "c.txt"),
    "TensorFlow": (
        "item {\n  id: 1\n  name: 'background'\n}\nitem {\n  name: \"cat\" id: 2 }\nitem { id: 3 name: 'dog' }\n",
        "label_map.pbtxt",
    ),
}


@pytest.mark.parametrize("kind", RIGHT)
def test_read_right(tmp_path, kind):
    text, name = RIGHT[kind]
    (tmp_path / name).write_text(text, encoding="utf-8", newline="")
    assert read_class_file(tmp_path / name).entries == ("background", "cat", "dog")


def test_utf16_with_its_mark_is_read(tmp_path):
    (tmp_path / "c.txt").write_bytes("Tür\ncafé\n".encode("utf-16"))
    assert read_class_file(tmp_path / "c.txt").entries == ("Tür", "café")


@pytest.mark.parametrize(
    "names",
    [
        ("7 eleven", "2 door car"),
        ("class 1", "class 2"),
        ("boeing 747", "airbus 320"),
        ("3d printer", "cat"),
        ("sofa; couch", "person with clothes, people"),
        ("st. bernard", "no. 7 bus"),
        ("7-eleven", "7-up"),
    ],
)
def test_numbers_in_names_stay(tmp_path, names):
    (tmp_path / "c.txt").write_text("\n".join(names))
    assert read_class_file(tmp_path / "c.txt").entries == names


@pytest.mark.parametrize(
    ("text", "name", "message"),
    [
        ("cat\n\ndog\n", "c.txt", "line 2: empty name"),
        ("\ncat\n", "c.txt", "line 1: empty name"),
        ("0: cat\n1: dog\n255: void\n", "c.txt", "line 3: number 255 where 2"),
        ("0 cat\n1 dog\n3 bird\n", "c.txt", "line 3: number 3 where 2"),
        ("0: cat\n0: dog\n", "c.txt", "line 2: number 0 occurs twice"),
        ("2: cat\n3: dog\n", "c.txt", "line 1: number 2 where 0"),
        ("0: cat\ndog\n2: bird\n", "c.txt", "line 2: not numbered"),
        ("cat,1,2,3\ndog\nbird,4,5,6\n", "c.csv", "line 2: not numbered or coloured"),
        ("cat:0,0,0::\ndog\n", "labelmap.txt", "line 2: other lines are those of a CVAT label map"),
        ("id,name\n0,cat\n1\n", "c.csv", "line 3: 1 columns"),
        ("id,name\nx,cat\n", "c.csv", "line 2: 'x' under 'id'"),
        ("0\n1\n2\n", "c.txt", "line 1: '0' is a number"),
        ("<!DOCTYPE html>\n<html>", "c.txt", "a web page"),
        ('["cat", "dog"', "c.json", "line 1: not readable as JSON"),
        ("- cat\n- {dog\n", "c.yaml", "line 3: not readable as YAML"),
        ("- cat\n- no\n", "c.yaml", "entry 1: False (bool) is no name"),
        ('[{"name": "cat", "id": 1}, {"name": "dog", "id": 18}]', "c.json", "entry 1: number 18 where 2"),
        ('{"cat": [1, 2]}', "c.json", "entry 0: 1 (int) is no name"),
        ("", "c.txt", "no classes"),
        ("item { name: 'cat' }", "c.pbtxt", "line 1: an item without id"),
        ("5", "c.json", "5 (int) is no list of class names"),
    ],
)
def test_refused_with_the_place(tmp_path, text, name, message):
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(ClassListError, match=re.escape(message)) as caught:
        read_class_file(path)
    assert str(path) in str(caught.value)


def test_files_that_are_no_text(tmp_path):
    path = tmp_path / "c.txt"
    path.write_bytes("cat\ncafé\n".encode("latin-1"))
    with pytest.raises(ClassListError, match=r"c.txt, line 2: not UTF-8 text \(byte 0xe9\)"):
        read_class_file(path)
    path.write_bytes(b"cat\0dog")
    with pytest.raises(ClassListError, match="not a text file"):
        read_class_file(path)
    with pytest.raises(ClassListError, match="is a folder"):
        read_class_file(tmp_path)
    path.unlink()
    path.symlink_to("gone.txt")
    with pytest.raises(FileNotFoundError, match="a link to gone.txt, which is not there"):
        read_class_file(path)
    with open(tmp_path / "big.txt", "wb") as file:
        file.truncate(2**25)
    with pytest.raises(ClassListError, match="too many for a list of names"):
        read_class_file(tmp_path / "big.txt")


def test_objects():
    assert class_list({"sofa": ["couch", "sofa"], "cat": None}).entries == (("sofa", "couch"), "cat")
    assert class_list({"sofa": "couch; settee"}).entries == ("sofa; couch; settee",)
    assert class_list({1: "dog", 0: ["cat", "kitten"]}).entries == (("cat", "kitten"), "dog")
    assert class_list(name for name in ("cat", "dog")).entries == ("cat", "dog")
    for wrong in (
        None,
        5,
        b"cat",
        {"cat", "dog"},
        "cat",
        [1],
        [None],
        [b"cat"],
        [[]],
        [["cat", 3]],
        [True],
        [{"a": 1}],
    ):
        with pytest.raises(ClassListError):
            class_list(wrong)


def test_packaged_lists_are_plain_files():
    root = Path(__file__).parents[1] / "ovseg"
    for path in (*root.glob("text/vocabularies/*.txt"), *root.glob("datasets/classes/*[!s].txt")):
        found = read_class_file(path)
        assert list(found.entries) == path.read_text(encoding="utf-8").strip().split("\n"), path
        assert found.first is None
