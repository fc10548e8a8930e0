"""MESS: each data set in its official layout -> prepare -> check, the labels and names that its paper evaluates."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from mmengine.config import Config
from PIL import Image

from ovseg.cli import main
from ovseg.cli._data_check import benchmark_dataset
from ovseg.datasets import MESS, load_class_names
from ovseg.datasets.convert import CONVERTERS
from ovseg.datasets.convert.mess import TILE
from ovseg.suite import read_suite
from tests.cli.json_lines import run
from tests.datasets.fixtures import blobs, photo, save

CONFIGS = Path(__file__).parents[2] / "configs"
SIZE = (40, 56)
CITY_IDS = (0, 7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)
ANNOTATOR = "Annotator 1 (biologist second round of manual marks up)"
ISAID = [(0, 0, 0), (0, 0, 63), (0, 63, 63), (0, 63, 0), (0, 63, 127), (0, 63, 191), (0, 63, 255), (0, 127, 63),
         (0, 127, 127), (0, 0, 127), (0, 0, 191), (0, 0, 255), (0, 191, 127), (0, 127, 191), (0, 127, 255),
         (0, 100, 155)]  # fmt: skip
POTSDAM = [(255, 255, 255), (0, 0, 255), (0, 255, 255), (0, 255, 0), (255, 255, 0), (255, 0, 0)]
UAVID = [(0, 0, 0), (128, 0, 0), (128, 64, 128), (0, 128, 0), (128, 128, 0), (64, 0, 128), (192, 0, 192), (64, 64, 0)]
SUIM = [(0, 0, 0), (0, 0, 255), (0, 255, 0), (0, 255, 255), (255, 0, 0), (255, 0, 255), (255, 255, 0), (255, 255, 255)]
Truth = dict[str, np.ndarray]
"""Names of the samples and their classes; 255: ignored."""


def coloured(labels: np.ndarray, colours: list[tuple[int, int, int]]) -> np.ndarray:
    return np.array(colours, np.uint8)[labels]


def plain(images: str, masks: str, to_file: Callable[[np.ndarray], np.ndarray], classes: int, names: list[str]):
    """A layout that is read as it is: ``{name}`` in the paths, labels as the files have them."""

    def build(root: Path, rng: np.random.Generator) -> Truth:
        truth = {}
        for name in names:
            truth[name] = blobs(rng, SIZE, np.arange(classes))
            save(root / images.format(name=name), photo(rng, SIZE))
            save(root / masks.format(name=name), to_file(truth[name]))
        return truth

    return build


def byte(labels: np.ndarray) -> np.ndarray:
    return labels.astype(np.uint8)


def black_and_white(labels: np.ndarray) -> np.ndarray:
    return (255 * labels).astype(np.uint8)


def atlantis(root: Path, rng: np.random.Generator) -> Truth:
    labels = blobs(rng, SIZE, np.arange(57))
    save(root / "atlantis/images/test/canal/1.jpg", photo(rng, SIZE))
    save(root / "atlantis/masks/test/canal/1.png", labels.astype(np.uint8))
    return {"canal/1": np.where(labels == 0, 255, labels - 1)}


def dram(root: Path, rng: np.random.Generator) -> Truth:
    voc = ["background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"]
    voc += ["diningtable", "dog", "horse", "motorbike", "person", "potted-plant", "sheep", "sofa", "train", "tvmonitor"]
    names = load_class_names("mess_dram")
    labels = blobs(rng, SIZE, np.array([*range(21), 255]))
    save(root / "DRAM_processed/test/realism/monet/1.jpg", photo(rng, SIZE))
    save(root / "DRAM_processed/labels/realism/monet/1.png", labels.astype(np.uint8))
    table = {i: names.index(name if name in names else "background") for i, name in enumerate(voc)} | {255: 255}
    return {"realism/monet/1": np.vectorize(table.get)(labels)}


def dark_zurich(root: Path, rng: np.random.Generator) -> Truth:
    labels, base = blobs(rng, SIZE, np.arange(20)), root / "Dark_Zurich"
    invalid = np.zeros(SIZE, np.uint8)
    invalid[:5] = 255
    save(base / "rgb_anon/val/night/GOPR0356/a_rgb_anon.png", photo(rng, SIZE))
    save(base / "gt/val/night/GOPR0356/a_gt_labelIds.png", np.array(CITY_IDS, np.uint8)[labels])
    save(base / "gt/val/night/GOPR0356/a_gt_invGray.png", invalid)
    return {"a": np.where(invalid == 255, 255, labels)}


def mhp(root: Path, rng: np.random.Generator) -> Truth:
    base = root / "LV-MHP-v1"
    for name in ("0001", "0002"):
        save(base / f"images/{name}.jpg", photo(rng, SIZE))
        for person, place in ((1, slice(5, 20)), (2, slice(15, 35))):
            labels = np.zeros(SIZE, np.uint8)
            labels[place, 4:30] = 6 * person
            save(base / f"annotations/{name}_02_0{person}.png", labels)
    (base / "test_list.txt").write_text("0002.jpg\n")
    truth = np.zeros(SIZE, int)
    truth[5:15, 4:30], truth[15:35, 4:30] = 6, 12
    return {"0002": truth}


def kvasir(root: Path, rng: np.random.Generator) -> Truth:
    base, labels = root / "kvasir-instrument", blobs(rng, SIZE, np.arange(2))
    for name in ("a", "b"):
        save(base / f"images/{name}.jpg", photo(rng, SIZE))
    save(base / "masks/b.png", np.repeat((255 * labels).astype(np.uint8)[..., None], 3, 2))
    (base / "test.txt").write_text("b\n")
    return {"b": labels}


def chase(root: Path, rng: np.random.Generator) -> Truth:
    truth = {}
    for number in range(1, 15):
        for eye in "LR":
            name = f"Image_{number:02}{eye}"
            save(root / f"CHASEDB1/{name}.jpg", photo(rng, SIZE))
            labels = blobs(rng, SIZE, np.arange(2))
            for observer in ("1stHO", "2ndHO"):
                Image.fromarray(labels.astype(bool)).save(root / f"CHASEDB1/{name}_{observer}.png")
            if number > 4:
                truth[name] = labels
    return truth


def suim(root: Path, rng: np.random.Generator) -> Truth:
    labels = blobs(rng, SIZE, np.arange(8))
    save(root / "SUIM/TEST/images/d_r_1.jpg", photo(rng, SIZE))
    save(root / "SUIM/TEST/masks/d_r_1.bmp", coloured(labels, SUIM))
    return {"d_r_1": labels}


def cwfid(root: Path, rng: np.random.Generator) -> Truth:
    truth = {}
    for number in range(1, 61):
        labels = blobs(rng, SIZE, np.arange(3))
        save(root / f"cwfid/images/{number:03}_image.png", photo(rng, SIZE))
        picture = coloured(labels, [(0, 0, 0), (255, 0, 0), (0, 255, 0)])
        save(root / f"cwfid/annotations/{number:03}_annotation.png", picture)
        truth[f"{number:03}"] = labels
    split = (CONFIGS / "_base_/datasets/mess_splits/cwfid.txt").read_text().split()
    assert len(split) == 21
    return {name: truth[name] for name in split}


def cub(root: Path, rng: np.random.Generator) -> Truth:
    base = root / "CUB_200_2011"
    names = ["001.Black_footed_Albatross/B_1", "200.Common_Yellowthroat/C_1", "200.Common_Yellowthroat/C_2"]
    votes = blobs(rng, SIZE, np.array([0, 51, 102, 153, 204, 255])).astype(np.uint8)
    for name in names:
        save(base / f"images/{name}.jpg", photo(rng, SIZE))
        save(base / f"segmentations/{name}.png", votes if name.endswith("C_1") else np.stack([votes, votes], 2))
    (base / "images.txt").write_text("".join(f"{i} {name}.jpg\n" for i, name in enumerate(names, 1)))
    (base / "train_test_split.txt").write_text("1 0\n2 0\n3 1\n")
    return {name: np.where(votes > 128, int(name[:3]), 0) for name in names[:2]}


def paxray(part: str):
    def build(root: Path, rng: np.random.Generator) -> Truth:
        base = root / "paxray_dataset"
        planes = rng.integers(0, 2, (166, *SIZE)).astype(bool)
        for name in ("a", "b"):
            save(base / f"images/{name}.png", photo(rng, SIZE))
        (base / "labels").mkdir()
        np.save(base / "labels/b.npy", planes)
        entry = {"image": "images/b.png", "target": "labels/b.npy"}
        (base / "paxray.json").write_text(json.dumps({"train": [], "test": [entry]}))
        return {"b": planes[{"lungs": 0, "mediastinum": 10, "bones": 24, "diaphragm": 163}[part]].astype(int)}

    return build


def tiled(images: str, masks: str, to_file: Callable[[np.ndarray], np.ndarray], classes: int, name: str):
    """A large photo, of which two rows of one and a half tiles are made."""

    def build(root: Path, rng: np.random.Generator) -> Truth:
        size = (TILE + 7, TILE + 40)
        labels = blobs(rng, size, np.arange(classes))
        save(root / images, photo(rng, size))
        save(root / masks, to_file(labels))
        return cut(labels, name)

    return build


def cut(labels: np.ndarray, name: str) -> Truth:
    whole = np.full((2 * TILE, 2 * TILE), 255)
    whole[: labels.shape[0], : labels.shape[1]] = labels
    corners = [(top, left) for top in (0, TILE) for left in (0, TILE)]
    return {f"{name}_{i}": whole[top : top + TILE, left : left + TILE] for i, (top, left) in enumerate(corners)}


def worldfloods(root: Path, rng: np.random.Generator) -> Truth:
    rasterio = pytest.importorskip("rasterio")
    size, base = (TILE + 7, TILE + 40), root / "WorldFloods/test"
    labels, bands = blobs(rng, size, np.arange(4)), rng.integers(0, 7000, (13, *size)).astype(np.uint16)
    bands[7, 0, 0], bands[3, 0, 0], bands[1, 0, 0] = 9000, 3115, 0
    for folder, array in (("S2", bands), ("gt", labels.astype(np.uint8)[None])):
        (base / folder).mkdir(parents=True)
        options = dict(driver="GTiff", width=size[1], height=size[0], count=len(array), dtype=array.dtype)
        with rasterio.open(base / folder / "EMSR_1.tif", "w", **options) as file:
            file.write(array)
    return cut(np.array([255, 0, 1, 2])[labels], "EMSR_1")


def potsdam(root: Path, rng: np.random.Generator) -> Truth:
    base, truth = root / "ISPRS_Potsdam", {}
    areas = "2_13 2_14 3_13 3_14 4_13 4_14 4_15 5_13 5_14 5_15 6_13 6_14 6_15 7_13".split()
    for area in [*areas, "2_10"]:
        labels = blobs(rng, SIZE, np.arange(6))
        picture = coloured(labels, POTSDAM)
        shaded = np.where(picture > 0, 230, 20).astype(np.uint8)  # some official files have such
        save(base / f"3_Ortho_IRRG/top_potsdam_{area}_IRRG.tif", photo(rng, SIZE))
        save(base / f"Labels/top_potsdam_{area}_label.tif", shaded if area == "2_14" else picture)
        if area != "2_10":
            truth[f"top_potsdam_{area}_0"] = cut(labels, "x")["x_0"]
    return truth


LAYOUTS: dict[str, Callable[[Path, np.random.Generator], Truth]] = {
    "bdd100k": plain(
        "bdd100k/images/10k/val/{name}.jpg", "bdd100k/labels/sem_seg/masks/val/{name}.png", byte, 19, ["a", "b"]
    ),
    "dark_zurich": dark_zurich,
    "mhp_v1": mhp,
    "foodseg103": plain(
        "FoodSeg103/Images/img_dir/test/{name}.jpg",
        "FoodSeg103/Images/ann_dir/test/{name}.png",
        byte,
        104,
        ["00000048"],
    ),
    "atlantis": atlantis,
    "dram": dram,
    "isaid": tiled(
        "isaid/val/images/P0003.png",
        "isaid/raw_val/images/P0003_instance_color_RGB.png",
        lambda labels: coloured(labels, ISAID),
        16,
        "P0003",
    ),
    "isprs_potsdam": potsdam,
    "worldfloods": worldfloods,
    "floodnet": tiled(
        "FloodNet-Supervised_v1.0/test/test-org-img/6336.jpg",
        "FloodNet-Supervised_v1.0/test/test-label-img/6336_lab.png",
        byte,
        10,
        "6336",
    ),
    "uavid": tiled(
        "uavid_v1.5/uavid_val/seq16/Images/000000.png",
        "uavid_v1.5/uavid_val/seq16/Labels/000000.png",
        lambda labels: coloured(labels, UAVID),
        8,
        "seq16_000000",
    ),
    "kvasir_instrument": kvasir,
    "chase_db1": chase,
    "cryonuseg": plain(
        "CryoNuSeg/tissue images/{name}.tif",
        f"CryoNuSeg/{ANNOTATOR}/{ANNOTATOR}/mask binary/{{name}}.png",
        black_and_white,
        2,
        ["Human_Larynx_01"],
    ),
    **{f"paxray_{part}": paxray(part) for part in ("lungs", "mediastinum", "bones", "diaphragm")},
    "corrosion_cs": plain(
        "Corrosion Condition State Classification/original/Test/images/{name}.jpeg",
        "Corrosion Condition State Classification/original/Test/masks/{name}.png",
        byte,
        4,
        ["1", "2"],
    ),
    "deepcrack": plain("DeepCrack/test_img/{name}.jpg", "DeepCrack/test_lab/{name}.png", black_and_white, 2, ["11"]),
    "pst900": plain(
        "PST900_RGBT_Dataset/test/thermal/{name}.png", "PST900_RGBT_Dataset/test/labels/{name}.png", byte, 5, ["7"]
    ),
    "zerowaste": plain(
        "zerowaste-f/splits_final_deblurred/test/data/{name}.PNG",
        "zerowaste-f/splits_final_deblurred/test/sem_seg/{name}.PNG",
        byte,
        5,
        ["01_frame_1"],
    ),
    "suim": suim,
    "cub_200": cub,
    "cwfid": cwfid,
}


def test_every_data_set_has_a_layout_and_the_fields_have_their_22():
    assert set(MESS) == {f"mess_{name}" for name in LAYOUTS}
    of_field = {}
    for name, benchmark in MESS.items():
        of_field.setdefault(benchmark.group, set()).add(name.partition("_paxray")[0])
        assert benchmark.licence and benchmark.downloads and benchmark.title.startswith("MESS ")
        assert benchmark.num_classes == len(load_class_names(name))
    assert {field: len(names) for field, names in of_field.items()} == {
        "general": 6, "earth monitoring": 5, "medical sciences": 4, "engineering": 4, "agriculture and biology": 3,
    }  # fmt: skip


@pytest.mark.parametrize("name", sorted(LAYOUTS))
def test_official_layout_to_labels(tmp_path, name, capsys):
    truth = LAYOUTS[name](tmp_path, np.random.default_rng(7))
    arguments = ["data", "prepare", f"mess_{name}", "--data-root", tmp_path]
    # photos and labels are random: whole data sets are suspected of much, but no file may be blamed
    lines = run(capsys, *arguments, command="data prepare", status=1)
    assert lines[0]["failures"] == {}
    kinds = {finding["kind"] for finding in lines[1]["findings"] if finding["wrong"]}
    whole = len(truth) == MESS[f"mess_{name}"].images[0]
    assert kinds - {"shifted", "edges", "exchanged"} == (set() if whole else {"count"})
    dataset = benchmark_dataset(f"mess_{name}", tmp_path)
    found = {dataset.get_data_info(i)["name"]: dataset[i]["data_samples"] for i in range(len(dataset))}
    assert sorted(found) == sorted(truth)
    for sample, labels in truth.items():
        np.testing.assert_array_equal(found[sample].gt_sem_seg.data[0].numpy(), labels, err_msg=sample)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.*")}
    run(capsys, *arguments, command="data prepare", status=1)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.*")} == before


@pytest.mark.parametrize("name", sorted(name for name in CONVERTERS if name.startswith("mess_")))
def test_what_is_missing_is_told(tmp_path, name, capsys):
    assert main(["data", "prepare", name, "--data-root", str(tmp_path)]) == 1
    assert "docs/mess.md" in capsys.readouterr().out.replace("\n", " ")


def test_photos_of_sentinel(tmp_path):
    worldfloods(tmp_path, np.random.default_rng(1))
    jobs = CONVERTERS["mess_worldfloods"](tmp_path)
    picture = jobs[0].make(jobs[0].source)
    # white where the band is its mean and deviation together, (3418.9 + 2811.8) / 2 is half
    assert picture[0, 0].tolist() == [255, 127, 0]


def test_foreign_values_are_refused_by_name(tmp_path):
    for name, path, array in (
        ("uavid", "uavid_v1.5/uavid_val/seq16/Labels/000000.png", np.full((TILE + 7, TILE + 40, 3), 9, np.uint8)),
        ("dark_zurich", "Dark_Zurich/gt/val/night/GOPR0356/a_gt_labelIds.png", np.full(SIZE, 5, np.uint8)),
    ):
        LAYOUTS[name](tmp_path, np.random.default_rng(0))
        cv2.imwrite(str(tmp_path / path), array)
        job = next(job for job in CONVERTERS[f"mess_{name}"](tmp_path) if job.source == tmp_path / path)
        with pytest.raises(ValueError, match="other colours|no id of a class"):
            job.make(job.source)


def test_the_suite_has_the_fields_of_the_paper():
    suite = read_suite(CONFIGS / "suites/mess.yaml")
    assert {data.benchmark for data in suite.datasets} == set(MESS)
    fields = {"General", "Earth monitoring", "Medical sciences", "Engineering", "Agriculture and biology"}
    for field in fields:
        parts = {part for name in suite.groups[field] for part in suite.groups.get(name, (name,))}
        assert parts == {name for name, benchmark in MESS.items() if benchmark.group == field.lower()}
    assert len(suite.groups["Mean of 22"]) == 22
    values = {data.name: 10.0 for data in suite.datasets} | {"mess_paxray_bones": 50.0}
    assert suite.group_mean("PAXRay-4", values) == 20 and suite.group_mean("Medical sciences", values) == 12.5
    assert suite.group_mean("Mean of 22", values) == pytest.approx(10 + 10 / 22)
    assert suite.group_mean("Medical sciences", {**values, "mess_cryonuseg": None}) is None
    sizes = {"General": 6, "Earth monitoring": 5, "Medical sciences": 4, "Engineering": 4, "Agriculture and biology": 3}
    for row in suite.published.values():  # the paper's own means agree with the groups that stand here
        mean = sum(row[field] * count for field, count in sizes.items()) / 22
        assert mean == pytest.approx(row["Mean of 22"], abs=0.02)


def test_configs_say_what_the_definitions_say():
    for name, benchmark in MESS.items():
        cfg = Config.fromfile(CONFIGS / f"_base_/datasets/{name}.py")
        assert cfg.num_classes == benchmark.num_classes and cfg.test_dataloader.dataset.benchmark == name
