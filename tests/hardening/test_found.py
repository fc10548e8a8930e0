"""What damaged inputs have brought to light, each as the smallest input that showed it."""

import json
import time
import zipfile

import numpy as np
import pyarrow
import pyarrow.parquet as parquet
import pytest

from ovseg.backbones.guide_cache import read_features
from ovseg.bulk import list_source, read, write_page
from ovseg.bulk.manifest import FolderError
from ovseg.datasets.annotations import CocoAnnotations, LabelMeFiles, SuperviselyFiles
from ovseg.datasets.errors import DatasetNotFound, ImageReadError, MaskReadError
from ovseg.datasets.places import Place, StoreError, read_bytes
from ovseg.engine import load_config
from ovseg.errors import SetupError
from ovseg.regions.loading import LoadRegions
from ovseg.results import SegmentationResult
from ovseg.retrieval import BankError
from ovseg.retrieval.bank import read_facts
from ovseg.rle import MaskCodeError
from ovseg.text import Vocabulary
from ovseg.text.vocabulary import VocabularyError
from tests.bulk.jobs import WORDS, make_job, write_photos

NPY = b"\x93NUMPY\x01\x00v\x00"
HEADERS = {
    "a bracket that is never closed": b"{'descr': '<f4', 'shape': (3, 4, (",
    "an attribute of nothing": b"{'descr': 7, 'fortran_order': False, 'shape': (3, 4)}",
    "more than any memory": b"{'descr': '<f4', 'fortran_order': False, 'shape': (9000000, 9000000, 90000)}",
    "a shape of words": b"{'descr': '<f4', 'fortran_order': False, 'shape': ('a', 4)}",
}


@pytest.fixture
def npz(tmp_path):
    def write(header: bytes) -> bytes:
        with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
            archive.writestr("a.npy", npy(header))

    return write


def npy(header: bytes) -> bytes:
    return NPY + header.ljust(117) + b"\n" + bytes(48)


@pytest.mark.parametrize("header", HEADERS.values(), ids=HEADERS)
def test_headers_of_arrays(header, npz, tmp_path):
    npz(header)
    with pytest.raises(ValueError, match=r"region map .*a\.npz cannot be read"):
        LoadRegions(tmp_path).transform(dict(img_path="a.jpg", ori_shape=(3, 4)))
    (tmp_path / "a.npy").write_bytes(npy(header))
    assert read_features(tmp_path / "a.npy") is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d["images"].append("x"), "entry 1 of images lacks a brace"),
        (lambda d: d["images"][0].pop("file_name"), "entry 0 of images lacks file_name"),
        (lambda d: d["categories"][0].pop("id"), "entry 0 of categories lacks id"),
        (lambda d: d["categories"].append(dict(id="2", name="dog")), "ids of categories are of several types"),
        (lambda d: d["annotations"].append(None), "entry 1 of annotations lacks a brace"),
        (lambda d: d["annotations"][0].update(image_id=[]), "entry 0 of annotations: image_id is a number or a word"),
    ],
)
def test_coco_entries_that_are_none(change, message, tmp_path):
    document = dict(
        images=[dict(id=1, file_name="a.jpg", height=4, width=4)],
        annotations=[dict(image_id=1, category_id=1)],
        categories=[dict(id=1, name="cat")],
    )
    change(document)
    (tmp_path / "a.json").write_text(json.dumps(document))
    with pytest.raises(DatasetNotFound, match=rf"a\.json: {message}"):
        CocoAnnotations("a.json").load(tmp_path)


def test_a_coco_annotation_without_a_mask_still_has_a_fingerprint(tmp_path):
    document = dict(
        images=[dict(id=1, file_name="a.jpg", height=4, width=4)],
        annotations=[dict(image_id=1, category_id=1)],
        categories=[dict(id=1, name="cat")],
    )
    (tmp_path / "a.json").write_text(json.dumps(document))
    found = CocoAnnotations("a.json")
    found.bind(tmp_path, ["cat"], 255)
    reference = found.find({"a": tmp_path / "a.jpg"})["a"]
    assert found.digest(reference)
    with pytest.raises(MaskReadError, match=r"a\.json#a\.jpg"):
        found.read(reference)


@pytest.mark.parametrize(
    ("kind", "document", "message"),
    [
        (
            LabelMeFiles,
            dict(
                shapes=[dict(label="cat", shape_type="mask", points=[[float("nan"), 0], [1, 1]])],
                imageHeight=4,
                imageWidth=4,
            ),
            "shape 0 .*its points are no finite numbers",
        ),
        (LabelMeFiles, dict(shapes=[3], imageHeight=4, imageWidth=4), "shape 0 is no object but 3"),
        (SuperviselyFiles, dict(objects=["x"], size=dict(height=4, width=4)), "object 0 is no object but 'x'"),
    ],
)
def test_shapes_that_are_no_objects(kind, document, message, tmp_path):
    (tmp_path / "a.json").write_text(json.dumps(document))
    reader = kind()
    reader.bind(tmp_path, ["cat"], 255)
    with pytest.raises(MaskReadError, match=rf"a\.json.*{message}"):
        reader.read(str(tmp_path / "a.json"))


# --------------------------------------------------------------------------------------------------------- packs
def test_a_zip_file_whose_directory_is_damaged(tmp_path):
    (tmp_path / "a.zip").write_bytes(b"PK\x05\x06" + b"\xff" * 18)
    with pytest.raises(SetupError, match=r"cannot open .*a\.zip"):
        list_source(f"zip://*.png::{tmp_path}/a.zip")


def test_a_zip_file_with_a_member_without_a_name(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("x", b"1")
    data = (tmp_path / "a.zip").read_bytes().replace(b"x", b"\0")
    (tmp_path / "a.zip").write_bytes(data)
    with pytest.raises(SetupError, match=r"cannot look into .*a\.zip"):
        list_source(f"zip://*.png::{tmp_path}/a.zip")


def test_a_damaged_member_of_a_zip_file_is_one_photo(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for name in ("a.png", "b.png"):
            archive.writestr(name, np.random.default_rng(0).bytes(500))
    data = bytearray((tmp_path / "a.zip").read_bytes())
    data[100:140] = bytes(40)
    (tmp_path / "a.zip").write_bytes(data)
    first, second = list_source(f"zip://*.png::{tmp_path}/a.zip").photos
    with pytest.raises(ImageReadError, match=r"zip://a\.png::.*a\.zip: it is damaged there"):
        read_bytes(first.place)
    assert len(read_bytes(second.place)) == 500


def test_a_place_in_an_archive_is_shown_with_it_and_without_passwords():
    assert Place("a.png", "zip://::s3://key:secret@bucket/photos.zip").shown == "zip://a.png::s3://bucket/photos.zip"


def test_parquet_that_is_damaged_in_its_footer(tmp_path):
    parquet.write_table(pyarrow.table({"image": [b"1", b"2"]}), tmp_path / "a.parquet")
    data = bytearray((tmp_path / "a.parquet").read_bytes())
    for at in range(len(data) - 12, len(data) - 200, -1):
        broken = bytearray(data)
        broken[at] ^= 0xFF
        (tmp_path / "a.parquet").write_bytes(broken)
        try:
            for photo in list_source(str(tmp_path / "a.parquet")).photos:
                read_bytes(photo.place)
        except (SetupError, ImageReadError) as error:
            assert "a.parquet" in str(error) and "\n" not in str(error)


def test_parquet_that_is_none(tmp_path):
    (tmp_path / "a.parquet").write_bytes(b"PAR1" + bytes(30) + b"PAR1")
    with pytest.raises(StoreError, match=r"a\.parquet is no parquet file, or damaged"):
        list_source(str(tmp_path / "a.parquet"))


@pytest.mark.parametrize(
    ("line", "message"), [("a\0.jpg", "line 2, holds a NUL byte"), ("odd://x/a.jpg", "line 2: cannot open odd://")]
)
def test_lines_of_a_list(line, message, tmp_path):
    (tmp_path / "list.txt").write_text(f"# photos\n{line}\n")
    with pytest.raises(SetupError, match=rf"the list .*list\.txt, {message}"):
        list_source(str(tmp_path / "list.txt"))


# ------------------------------------------------------------------------------------------------ results of a job
@pytest.fixture
def out(tmp_path):
    photos = write_photos(tmp_path / "photos", 3)
    make_job(photos, tmp_path / "out", words=WORDS[:1], formats=("rle", "coco", "panoptic")).run()
    return tmp_path / "out"


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("bulk.json", lambda d: d.pop("made_with"), r"bulk\.json is damaged: made_with is no object"),
        ("bulk.json", lambda d: d["made_with"].update(formats=3), r"made_with\.formats is no list"),
        ("bulk.json", lambda d: d["made_with"]["vocabularies"].clear(), "it names no vocabulary"),
        ("bulk.json", lambda d: d["plan"].update(photos=True), r"plan\.photos is no int"),
        ("manifest.json", lambda d: d["photos"][0].pop("height"), r"manifest\.json is damaged: photos\.0\.height"),
        ("manifest.json", lambda d: d["files"].update(x={}), r"files\.x\.bytes is no int"),
        ("manifest.json", lambda d: d["pixels"]["greys"].append(1), "pixels of other words than the job has"),
    ],
)
def test_facts_of_a_job(out, name, change, message):
    path = next(out.rglob(name))
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))
    with pytest.raises(FolderError, match=message):
        list(read(out, "greys"))
        write_page(out)


@pytest.mark.parametrize("kind", ["coco", "panoptic"])
@pytest.mark.parametrize("value", [3, [], {"annotations": 3, "images": 3}, {"annotations": [1], "images": [1]}])
def test_results_that_hold_something_else(out, kind, value):
    path = next(out.rglob(f"{kind}.json"))
    size = path.stat().st_size
    path.write_text(json.dumps(value).ljust(size))
    with pytest.raises(FolderError, match="photo 0000.png cannot be read"):
        list(read(out, format=kind))


def test_a_size_that_no_memory_holds(out):
    path, manifest = next(out.rglob("coco.json")), next(out.rglob("manifest.json"))
    document, facts = json.loads(path.read_text()), json.loads(manifest.read_text())
    document["images"][1]["width"] = 2**31
    path.write_text(json.dumps(document))
    facts["files"]["greys/coco.json"]["bytes"] = path.stat().st_size
    manifest.write_text(json.dumps(facts))
    with pytest.raises(FolderError, match=r"photo 0001\.png cannot be read .*not the manifest's"):
        list(read(out, format="coco"))


def test_a_name_with_half_a_surrogate_pair_stands_on_the_page_as_its_code(out):
    path = next(out.rglob("manifest.json"))
    document = json.loads(path.read_text())
    document["photos"][0]["name"] = "\ud800.png"
    path.write_text(json.dumps(document))
    assert "\\ud800.png" in write_page(out).read_text(encoding="utf-8")


# ------------------------------------------------------------------------------------------------------- the rest
def test_facts_of_a_bank(tmp_path):
    for change, message in (({"stores": True}, "cannot be read"), ({"width": "7"}, "widths are whole numbers")):
        facts = {"version": 1, "width": 7, "stores": {"main": 5}, "provenance": {}} | change
        (tmp_path / "bank.json").write_text(json.dumps(facts))
        with pytest.raises(BankError, match=message):
            read_facts(tmp_path)


@pytest.mark.parametrize("make", [SegmentationResult.from_coco, SegmentationResult.from_polygons])
@pytest.mark.parametrize("size", [(12, 2**31), (0, 4), (-3, 4)])
def test_results_of_absurd_sizes(make, size):
    nothing = [] if make == SegmentationResult.from_coco else {}
    with pytest.raises(MaskCodeError, match="above the limit|a whole number of pixels is needed"):
        make(nothing, ["cat"], size=size)


def test_a_word_with_half_a_surrogate_pair_is_refused():
    for words in (["cat", "\ud83d"], {"cat": ["\udc00x"]}):
        with pytest.raises(VocabularyError, match="holds half of a surrogate pair"):
            Vocabulary.of(words)
    assert Vocabulary.of(["cat", "\U0001f431"]).names == ("cat", "\U0001f431")


def test_a_name_of_another_module_that_is_not_there(tmp_path):
    (tmp_path / "config.py").write_text("from json import nothing_of_this_name\nmodel = nothing_of_this_name()\n")
    with pytest.raises(SetupError, match=r"config .*config\.py"):
        load_config(tmp_path / "config.py")


def test_a_legend_with_a_name_of_100_000_letters_is_drawn_at_once():
    result = SegmentationResult.from_labels(np.zeros((20, 30), np.uint8), ["x" * 100_000])
    start = time.process_time()
    picture = result.overlay()
    assert time.process_time() - start < 5 and picture.shape[1] > 30
