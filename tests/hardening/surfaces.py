"""Everything that ovseg reads but pictures and label maps (:mod:`tests.datasets.damaged_files` has these), damaged.

A case is a whole file, damaged, and what a user does with it: a result, or one of ovseg's errors that names the file.
"""

from __future__ import annotations

import asyncio
import atexit
import base64
import io
import json
import os
import random
import shutil
import tarfile
import tempfile
import warnings
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import httpx
import numpy as np
import pyarrow
import pyarrow.parquet as parquet
import torch
from PIL import Image
from safetensors.torch import save_file

from ovseg.backbones.guide_cache import read_features
from ovseg.bulk import list_source, read, write_page
from ovseg.datasets.annotations import CocoAnnotations, LabelMeFiles, SuperviselyFiles, read_colour_table
from ovseg.datasets.errors import ImageReadError
from ovseg.datasets.io import read_image
from ovseg.datasets.pairs import read_pairs
from ovseg.datasets.places import read_bytes
from ovseg.engine import load_config
from ovseg.engine.state import _read as read_state
from ovseg.regions.loading import LoadRegions
from ovseg.results import SegmentationResult
from ovseg.retrieval import BankWriter, MemoryBank
from ovseg.rle import encode_mask
from ovseg.serve import Limits
from ovseg.serve.app import Service
from ovseg.suite.definition import read_suite
from ovseg.text import Vocabulary
from ovseg.weights import WeightsError
from ovseg.weights.reading import load_state_dict
from tests.bulk import jobs
from tests.datasets.damaged_files import Wrong
from tests.hardening.mutations import Damage, any_bytes, json_values, text_lines
from tests.weights.mutations import mutated

SIZE = (12, 16)
GREYS = ["dark", "middle", "light"]


@dataclass(frozen=True)
class Surface:
    """A way into ovseg.

    Attributes:
        make: writes what is needed into a folder; returns the file that is damaged.
        use: what is done with the folder; its result says whether the content is another.
        damage: how.
        recorded: errors that a job records and goes on after; they need not name the file.
    """

    make: Callable[[Path], Path]
    use: Callable[[Path], object]
    damage: Damage
    recorded: tuple[type[Exception], ...] = ()


def _png(rng: np.random.Generator, size: tuple[int, int] = SIZE) -> bytes:
    file = io.BytesIO()
    Image.fromarray(rng.integers(0, 255, (*size, 3), np.uint8)).save(file, "PNG")
    return file.getvalue()


def _written(name: str, content: bytes | str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return make


# ------------------------------------------------------------------------------------------------- annotations
def _mask() -> np.ndarray:
    mask = np.zeros(SIZE, bool)
    mask[2:9, 3:11] = True
    return mask


def _coco() -> str:
    code = encode_mask(_mask())
    one = dict(id=1, image_id=1, category_id=3, iscrowd=0, segmentation=[[1, 1, 9, 1, 9, 8, 1, 8]], area=50.0)
    return json.dumps(
        dict(
            images=[
                dict(id=1, file_name="a.jpg", height=12, width=16),
                dict(id=2, file_name="b.jpg", height=12, width=16),
            ],
            annotations=[
                one,
                one | dict(id=2, category_id=5, segmentation=code),
                one | dict(id=3, image_id=2, iscrowd=1),
            ],
            categories=[dict(id=3, name="cat"), dict(id=5, name="dog")],
        )
    )


def _use_coco(folder: Path) -> object:
    found = CocoAnnotations("annotations.json")
    found.bind(folder, ["cat", "dog"], 255)
    names = found.class_names()
    references = found.find({"a": folder / "a.jpg", "b": folder / "b.jpg"})
    return names, found.unused(), [(found.digest(r), found.read(r).tolist()) for r in references.values()]


def _labelme() -> str:
    box = io.BytesIO()
    Image.fromarray(np.ones((3, 4), np.uint8) * 255).save(box, "PNG")
    shapes = [
        dict(label="cat", shape_type="polygon", points=[[1, 1], [9, 1], [9, 8]]),
        dict(label="dog", shape_type="rectangle", points=[[2, 2], [5, 6]]),
        dict(label="cat", shape_type="circle", points=[[8, 6], [10, 6]]),
        dict(label="dog", shape_type="mask", points=[[1, 1], [4, 3]], mask=base64.b64encode(box.getvalue()).decode()),
    ]
    return json.dumps(dict(version="5", imageHeight=12, imageWidth=16, imagePath="a.jpg", shapes=shapes))


def _supervisely() -> str:
    import zlib

    box = io.BytesIO()
    Image.fromarray(np.ones((3, 4), np.uint8) * 255).save(box, "PNG")
    data = base64.b64encode(zlib.compress(box.getvalue())).decode()
    points = dict(exterior=[[1, 1], [9, 1], [9, 8]], interior=[[[2, 2], [3, 2], [3, 3]]])
    things = [
        dict(classTitle="cat", geometryType="polygon", points=points),
        dict(classTitle="dog", geometryType="rectangle", points=dict(exterior=[[1, 1], [4, 4]], interior=[])),
        dict(classTitle="dog", geometryType="bitmap", bitmap=dict(origin=[2, 3], data=data)),
    ]
    return json.dumps(dict(size=dict(height=12, width=16), objects=things))


def _reader(kind: type, name: str) -> Callable[[Path], object]:
    def use(folder: Path) -> object:
        found = kind()
        found.bind(folder, ["cat", "dog"], 255)
        return found.read(str(folder / name)).tolist()

    return use


COLOURS = "# label:color_rgb:parts:actions\ncat:128,0,0::\ndog:0,128,0::\nbackground:0,0,0::\n"
ROBOFLOW = "Pixel Value, Class, R, G, B\n0,cat,128,0,0\n1,dog,0,128,0\n"


# -------------------------------------------------------------------------------------------- words and configs
def _words(name: str, content: str) -> Surface:
    damage = json_values if name.endswith(".json") else text_lines
    return Surface(_written(name, content), lambda folder: Vocabulary.from_file(folder / name).classes, damage)


CONFIG = """# a config
_base_ = ["./base.py"]
model = dict(
    type="OpenVocabSegmentor",
    backbone=dict(type="ClipBackbone", weights="nano"),
    attention=dict(type="SelfSelfAttention", terms=("q", "k")),
    vocabulary=["cat", "dog"],
)
"""
SUITE = """name: nano on scenes
methods:
  - {method: clip, weights: nano}
  - {method: sclip, weights: nano}
datasets:
  - scenes
  - {benchmark: photos, vocabulary: voc21_photo}
limit: 40
"""


def _make_config(folder: Path) -> Path:
    (folder / "base.py").write_text("default_scope = 'ovseg'\nwork_dir = 'x'\n")
    return _written("config.py", CONFIG)(folder)


# -------------------------------------------------------------------------------------------------------- arrays
def _make_regions(folder: Path) -> Path:
    np.savez_compressed(folder / "a.npz", np.arange(12 * 16).reshape(SIZE) // 50)
    return folder / "a.npz"


def _use_regions(folder: Path) -> object:
    results = LoadRegions(folder).transform(dict(img_path="a.jpg", ori_shape=SIZE))
    return results["regions"].tolist()


def _make_state(folder: Path) -> Path:
    path = folder / "rank0.npz"
    np.savez(path, fingerprint="{}", matrix=np.eye(3, dtype=np.int64), done=np.arange(4), seconds=2.0)
    return path


def _use_state(folder: Path) -> object:
    state = read_state(folder / "rank0.npz")
    return state.fingerprint, state.matrix.tolist(), sorted(state.done), state.seconds


def _make_features(folder: Path) -> Path:
    np.save(folder / "a.npy", np.zeros((3, 4, 5), np.float32))
    return folder / "a.npy"


def _use_features(folder: Path) -> object:
    found = read_features(folder / "a.npy")
    return None if found is None else found.tolist()


def _make_bank(name: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        shutil.rmtree(folder / "bank", ignore_errors=True)
        writer = BankWriter(folder / "bank", 7, dict(main=5), {"weights": "small"}, 100)
        rng = torch.Generator().manual_seed(0)
        writer.add("photo", torch.randn(9, 7, generator=rng), dict(main=torch.randn(9, 5, generator=rng)))
        writer.flush()
        return next((folder / "bank").rglob(name))

    return make


def _use_bank(folder: Path) -> object:
    bank = MemoryBank(folder / "bank")
    scores, rows = bank.search(torch.eye(7)[:2], 3)
    return scores.tolist(), rows.tolist(), bank.values("main", rows).tolist()


def _make_weights(name: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        state = {"a.weight": torch.arange(600).float().reshape(20, 30), "b": torch.arange(50)}
        path = folder / name
        if name.endswith(".safetensors"):
            save_file(state, path)
        elif name.startswith("legacy"):
            torch.save(state, path, _use_new_zipfile_serialization=False)
        else:
            torch.save({"epoch": 3, "model": state, "best": np.float64(2)}, path)
        return path

    return make


def _weights(name: str) -> Surface:
    def use(folder: Path) -> object:
        return {key: (tuple(v.shape), float(v.double().sum())) for key, v in load_state_dict(folder / name).items()}

    def damage(rng: np.random.Generator, data: bytes) -> bytes:
        return mutated(data, random.Random(int(rng.integers(2**31))))

    return Surface(_make_weights(name), use, damage)


# ------------------------------------------------------------------------------------------------ photos in packs
def _photos(count: int = 3) -> dict[str, bytes]:
    rng = np.random.default_rng(0)
    return {f"{n:03d}.png": _png(rng) for n in range(count)}


def _make_tar(folder: Path) -> Path:
    with tarfile.open(folder / "a.tar", "w") as tar:
        for name, data in _photos().items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return folder / "a.tar"


def _make_zip(folder: Path) -> Path:
    with zipfile.ZipFile(folder / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in _photos().items():
            archive.writestr(name, data)
    return folder / "a.zip"


def _make_parquet(folder: Path) -> Path:
    table = pyarrow.table(
        {"image": [{"bytes": data, "path": name} for name, data in _photos().items()], "id": [1, 2, 3]}
    )
    parquet.write_table(table, folder / "a.parquet", row_group_size=2)
    return folder / "a.parquet"


def _make_list(folder: Path) -> Path:
    for name, data in _photos().items():
        (folder / name).write_bytes(data)
    return _written("list.txt", "# photos\n000.png\n001.png\n./002.png\nhttps://example.invalid/a.jpg\n")(folder)


def _source(address: str, lists: bool = False) -> Callable[[Path], object]:
    def use(folder: Path) -> object:
        _forget_stores()
        listing = list_source(address.format(folder))
        found: list[object] = [listing.notes]
        for photo in listing.photos[:8]:
            if lists and "://" in photo.place.path:  # a place on the web; no test asks for it
                continue
            try:
                found.append((photo.name, read_image(read_bytes(photo.place), 10**6).sum()))
            except ImageReadError as error:  # a job records it and goes on
                found.append((photo.name, type(error).__name__))
        return found

    return use


def _forget_stores() -> None:
    """What a new process would not know of a file that was changed behind its back."""
    from ovseg.datasets import places

    places._PAUSE = 0.0
    places._kept_table.cache_clear()
    places.file_system.cache_clear()


# ---------------------------------------------------------------------------------------------- a job's results
@cache
def _job() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="ovseg-hardening-job-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    photos = jobs.write_photos(folder / "photos", 3)
    job = jobs.make_job(photos, folder / "out", words=jobs.WORDS[:1], formats=("rle", "png", "coco", "panoptic"))
    job.run()
    return folder / "out"


def _make_job(name: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        shutil.rmtree(folder / "out", ignore_errors=True)
        shutil.copytree(_job(), folder / "out")
        return next(path for path in sorted((folder / "out").rglob(name)))

    return make


def _use_job(kind: str, page: bool = False) -> Callable[[Path], object]:
    def use(folder: Path) -> object:
        shard = next((folder / "out" / "shards").iterdir())
        sizes = {p: p.stat().st_size for p in shard.rglob("*") if p.is_file()}
        manifest = shard / "manifest.json"
        if kind != "manifest":  # the damage is then no matter of size: the manifest says what is there
            facts = json.loads(manifest.read_text())
            for path, size in sizes.items():
                name = path.relative_to(shard).as_posix()
                if name in facts["files"]:
                    facts["files"][name]["bytes"] = size
            manifest.write_text(json.dumps(facts))
        wanted = None if kind == "manifest" else kind
        found = [
            (f.number, f.name, None if f.result is None else f.result.labels.tolist())
            for f in read(folder / "out", format=wanted)
        ]
        if page:
            write_page(folder / "out")
        return found

    return use


# ------------------------------------------------------------------------------------------------------- formats
def _result() -> SegmentationResult:
    labels = np.zeros(SIZE, np.uint16)
    labels[2:9, 3:11] = 1
    labels[4:6, 5:14] = 2
    return SegmentationResult.from_labels(labels, GREYS)


def _use_export(name: str, back: Callable[[object], SegmentationResult]) -> Callable[[Path], object]:
    """A file of a result, given to ``SegmentationResult.from_...`` as a user does: what it holds is named, not the
    file, which these functions never see."""

    def use(folder: Path) -> object:
        text = (folder / name).read_bytes()
        try:
            given = json.loads(text)
        except ValueError:
            return None  # the user's own reading
        return back(given).labels.tolist()

    return use


# ------------------------------------------------------------------------------------------------------- service
@cache
def _service() -> Service:
    return Service(jobs.Segmenter(), Limits(pixels=10**6, megabytes=1))


def _ask(content: bytes, kind: str, query: str) -> tuple[int, object]:
    async def once() -> httpx.Response:
        transport = httpx.ASGITransport(app=_service().app)
        async with httpx.AsyncClient(transport=transport, base_url="http://here") as client:
            return await client.post(f"/v1/segment{query}", content=content, headers={"content-type": kind})

    answer = asyncio.run(once())
    return answer.status_code, answer.json()


def _use_service(kind: str, query: str) -> Callable[[Path], object]:
    def use(folder: Path) -> object:
        status, answer = _ask((folder / "body").read_bytes(), kind, query)
        if status == 200:
            return answer
        if status not in (400, 413, 415, 422) or not str(answer.get("error", "")).strip():
            raise Wrong(f"HTTP {status}: {answer}")
        raise ValueError(f"body: {answer['error']}")

    return use


def _body() -> str:
    photo = base64.b64encode(_png(np.random.default_rng(1))).decode()
    return json.dumps(dict(image=photo, classes=GREYS, background="dark", format="rle"))


SURFACES: dict[str, Surface] = {
    "COCO JSON": Surface(_written("annotations.json", _coco()), _use_coco, json_values),
    "LabelMe JSON": Surface(_written("a.json", _labelme()), _reader(LabelMeFiles, "a.json"), json_values),
    "Supervisely JSON": Surface(
        _written("a.jpg.json", _supervisely()), _reader(SuperviselyFiles, "a.jpg.json"), json_values
    ),
    "CVAT labelmap.txt": Surface(
        _written("labelmap.txt", COLOURS), lambda folder: read_colour_table(folder / "labelmap.txt"), text_lines
    ),
    "Roboflow _classes.csv": Surface(
        _written("_classes.csv", ROBOFLOW), lambda folder: read_colour_table(folder / "_classes.csv"), text_lines
    ),
    "pairs": Surface(
        _written("pairs.txt", "a.jpg a.png\nb.jpg\tb.png\n"),
        lambda folder: read_pairs(folder / "pairs.txt"),
        text_lines,
    ),
    "words, text": _words("words.txt", "background := sky; wall\ncat\ndog; puppy\nsofa; couch\n"),
    "words, CSV": _words("words.csv", "id,name\n0,cat\n1,dog; puppy\n2,sofa\n"),
    "words, JSON": _words("words.json", json.dumps({"cat": ["cat", "kitten"], "dog": [], "sofa": "couch"})),
    "words, YAML": _words("words.yaml", "- cat\n- [dog, puppy]\n- sofa\n"),
    "config": Surface(_make_config, lambda folder: load_config(folder / "config.py").to_dict(), text_lines),
    "suite": Surface(_written("suite.yaml", SUITE), lambda folder: read_suite(folder / "suite.yaml"), text_lines),
    "region map (npz)": Surface(_make_regions, _use_regions, any_bytes),
    "saved evaluation (npz)": Surface(_make_state, _use_state, any_bytes),
    "cached guide features (npy)": Surface(_make_features, _use_features, any_bytes),
    "memory bank, facts": Surface(_make_bank("bank.json"), _use_bank, json_values),
    "memory bank, rows": Surface(_make_bank("*.npy"), _use_bank, any_bytes),
    "checkpoint, safetensors": _weights("w.safetensors"),
    "checkpoint, zip": _weights("w.pth"),
    "checkpoint, legacy pickle": _weights("legacy.pth"),
    "tar shard": Surface(_make_tar, _source("{}/a.tar"), any_bytes),
    "zip archive": Surface(_make_zip, _source("zip://*.png::{}/a.zip"), any_bytes),
    "parquet shard": Surface(_make_parquet, _source("{}/a.parquet"), any_bytes),
    "list of photos": Surface(_make_list, _source("{}/list.txt", lists=True), text_lines),
    "bulk.json": Surface(_make_job("bulk.json"), _use_job("rle", page=True), json_values),
    "manifest.json": Surface(_make_job("manifest.json"), _use_job("manifest", page=True), json_values),
    "results, rle.parquet": Surface(_make_job("rle.parquet"), _use_job("rle"), any_bytes),
    "results, coco.json": Surface(_make_job("coco.json"), _use_job("coco"), json_values),
    "results, panoptic.json": Surface(_make_job("panoptic.json"), _use_job("panoptic"), json_values),
    "results, PNG": Surface(_make_job("0000*.png"), _use_job("png"), any_bytes),
    "service, photo": Surface(
        _written("body", _png(np.random.default_rng(1))),
        _use_service("image/png", "?classes=dark,middle,light"),
        any_bytes,
    ),
    "service, JSON": Surface(_written("body", _body()), _use_service("application/json", ""), json_values),
}


@cache
def _room(kind: str) -> SimpleNamespace:
    """A folder with the whole files of a surface, and what they give."""
    top = Path(tempfile.mkdtemp(prefix="ovseg-hardening-"))
    atexit.register(shutil.rmtree, top, ignore_errors=True)
    room = SimpleNamespace(top=top, folder=top / "in", home=top / "home")
    room.folder.mkdir()
    room.home.mkdir()
    os.chdir(room.home)  # whatever is written by a relative name shows there
    surface = SURFACES[kind]
    room.path = surface.make(room.folder)
    room.whole = room.path.read_bytes()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        room.expected = repr(surface.use(room.folder))
    return room


def try_surface(kind: str, rng: np.random.Generator) -> tuple[str, bytes]:
    """One damaged file, tried: ``'refused'``, ``'identical'`` or ``'other content'``, and the file.

    Raises:
        Wrong: for an error that is none of ovseg's or does not name the file, or a file that was written elsewhere.
    """
    room, surface = _room(kind), SURFACES[kind]
    os.chdir(room.home)
    data = surface.damage(rng, room.whole)
    if kind in _REMADE:
        surface.make(room.folder)
    room.path.write_bytes(data)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = repr(surface.use(room.folder))
        outcome = "identical" if found == room.expected else "other content"
    except Wrong:
        raise
    except (ValueError, FileNotFoundError, WeightsError) as error:
        own = type(error) not in (UnicodeDecodeError, UnicodeEncodeError, json.JSONDecodeError)
        if not own or not any(part in str(error) for part in _names(kind, room.path)):
            raise Wrong(f"not named: {type(error).__name__}: {error}") from error
        if "\n" in str(error):
            raise Wrong(f"more than a line: {error}") from error
        outcome = "refused"
    there = {path.name for path in room.top.iterdir()} | {path.name for path in room.home.iterdir()}
    if there != {"in", "home"}:
        raise Wrong(f"written elsewhere: {there}")
    return outcome, data


_REMADE = tuple(name for name in SURFACES if name.startswith(("bulk", "manifest", "results")))


def _names(kind: str, path: Path) -> tuple[str, ...]:
    """What an error may call a file: its own name, or for a job's results their folder."""
    if kind in ("bulk.json", "manifest.json"):
        return path.name, "/in/out"
    return (path.name, str(path.parent)) if kind.startswith("results") or "bank" in kind else (path.name,)
