"""All benchmark configs on small copies of the official layouts, and what goes wrong with data sets."""

from pathlib import Path

import numpy as np
import pytest
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.registry import init_default_scope

from ovseg.datasets import BENCHMARKS, DatasetNotFound, EvalSampler, MaskReadError, SegmentationDataset
from ovseg.datasets.class_names import CLASSES_DIR, load_class_names
from ovseg.registry import DATASETS
from tests.datasets.fixtures import NAMES, OFFICIAL, build

CONFIGS = Path(__file__).parents[2] / "configs" / "_base_" / "datasets"
PIPELINE = [dict(type="LoadImage"), dict(type="LoadMask"), dict(type="PackInputs")]


def dataset_from_config(name: str, **overrides) -> SegmentationDataset:
    init_default_scope("ovseg")
    cfg = Config.fromfile(CONFIGS / f"{name}.py")
    cfg.test_dataloader.dataset.update(overrides)
    return DATASETS.build(cfg.test_dataloader.dataset)


@pytest.mark.parametrize("name", OFFICIAL)
def test_config_reads_the_official_layout(tmp_path, monkeypatch, name):
    expected = build(tmp_path, name)
    monkeypatch.setenv("OVSEG_DATA", str(tmp_path))
    cfg = Config.fromfile(CONFIGS / f"{name}.py")
    dataset = dataset_from_config(name)
    assert cfg.num_classes == BENCHMARKS[name].num_classes == len(dataset.metainfo["classes"])
    assert len(dataset) == 3
    for i, truth in enumerate(expected):
        item = dataset[i]
        sample = item["data_samples"]
        assert "error" not in sample.metainfo, sample.metainfo
        assert sample.name == NAMES[name][i]
        assert min(item["inputs"].shape[1:]) == cfg.short_side
        np.testing.assert_array_equal(sample.gt_sem_seg.data[0].numpy(), truth)


def test_hidden_files_are_no_photos(tmp_path, monkeypatch):
    build(tmp_path, "ade20k")
    monkeypatch.setenv("OVSEG_DATA", str(tmp_path))
    photo = next(p for p in tmp_path.rglob("*.jpg") if "validation" in str(p))
    for name in (f".{photo.stem}.123.part.jpg", f"._{photo.name}"):  # of a killed conversion, of macOS
        photo.with_name(name).write_bytes(b"half a photo")
    assert len(dataset_from_config("ade20k")) == 3


def test_a_short_side_that_nothing_would_use_is_told():
    from ovseg.engine import SetupError, set_short_side

    config = Config.fromfile(CONFIGS / "scenes.py")
    config.short_side = 224
    with pytest.raises(SetupError, match="short_side=224 would change nothing"):
        set_short_side(config)


@pytest.mark.parametrize("name", sorted(BENCHMARKS))
def test_missing_data_set_says_which_and_how_to_get_it(tmp_path, monkeypatch, name):
    monkeypatch.setenv("OVSEG_DATA", str(tmp_path / "nowhere"))
    monkeypatch.setenv("OVSEG_SHARED", str(tmp_path / "nowhere"))
    root = {"data_root": str(tmp_path / "nowhere")} if name.startswith(("scenes", "photos")) else {}
    with pytest.raises(DatasetNotFound) as caught:
        dataset_from_config(name, **root)
    message = str(caught.value)
    assert BENCHMARKS[name].title in message and str(tmp_path / "nowhere") in message and "Get it:" in message
    assert "\n" not in message


@pytest.mark.parametrize("name", ["scenes", "scenes_noto"])
def test_the_embedded_scenes(name):
    try:
        dataset = dataset_from_config(name)
    except DatasetNotFound as error:
        pytest.skip(str(error))
    assert len(dataset) >= 200
    assert len(dataset.metainfo["classes"]) == Config.fromfile(CONFIGS / f"{name}.py").num_classes
    assert "error" not in dataset[0]["data_samples"].metainfo


def test_real_photos(shared_data):
    dataset = dataset_from_config("coco100_voc21", data_root=str(shared_data / "real_mini/coco100"))
    assert len(dataset) == 100
    assert all("error" not in dataset[i]["data_samples"].metainfo for i in range(0, 100, 20))
    ade = shared_data / "real_mini/ade20k"
    dataset = SegmentationDataset("ade20k", str(ade), reduce_zero_label=True, pipeline=PIPELINE, on_error="raise")
    assert dataset[0]["data_samples"].gt_sem_seg.data.max() == 255
    voc = SegmentationDataset("voc21", str(shared_data / "real_mini/voc2012"), pipeline=PIPELINE, on_error="raise")
    assert len(voc) == 6 and voc[0]["data_samples"].gt_sem_seg.data.max() <= 255


def test_short_side_can_be_set_in_one_line(tmp_path, monkeypatch):
    from ovseg.engine import set_short_side

    build(tmp_path, "voc21")
    monkeypatch.setenv("OVSEG_DATA", str(tmp_path))
    cfg = Config.fromfile(CONFIGS / "voc21.py")
    cfg.short_side = 112
    set_short_side(cfg)
    dataset = DATASETS.build(cfg.test_dataloader.dataset)
    assert min(dataset[0]["inputs"].shape[1:]) == 112
    assert cfg.test_pipeline[2].short_side == 112


def small(tmp_path, **options) -> SegmentationDataset:
    build(tmp_path, "voc21")
    voc = tmp_path / "VOCdevkit/VOC2012"
    base = dict(classes="voc21", data_root=str(voc), img_dir="JPEGImages", mask_dir="SegmentationClass")
    return SegmentationDataset(**{**base, "pipeline": PIPELINE, **options})


def test_unreadable_samples_are_recorded_and_collated(tmp_path):
    dataset = small(tmp_path, pipeline=[*PIPELINE[:2], dict(type="PackInputs", keys=("original",))])
    Path(dataset.get_data_info(1)["img_path"]).write_bytes(b"")
    Path(dataset.get_data_info(2)["seg_map_path"]).unlink()
    batch = pseudo_collate([dataset[i] for i in (1, 0, 2)])
    assert [x is None for x in batch["inputs"]] == [True, False, True]
    assert [x is None for x in batch["original"]] == [True, False, True]
    assert "the file is empty" in batch["data_samples"][0].error
    assert "no such file" in batch["data_samples"][2].error
    assert batch["data_samples"][2].sample_idx == 2


def test_on_error_raise(tmp_path):
    dataset = small(tmp_path, on_error="raise", reduce_zero_label=True, classes="ade20k")
    Path(dataset.get_data_info(0)["seg_map_path"]).unlink()
    with pytest.raises(MaskReadError, match="no such file"):
        dataset[0]


def test_listed_but_missing_photo_is_recorded(tmp_path):
    dataset = small(tmp_path, split="ImageSets/Segmentation/val.txt")
    assert len(dataset) == 3
    split = tmp_path / "VOCdevkit/VOC2012/ImageSets/Segmentation/val.txt"
    split.write_text(split.read_text() + "2099_000000\n\n")
    dataset = small_again(tmp_path)
    assert len(dataset) == 4
    assert "2099_000000.jpg: no such file" in dataset[3]["data_samples"].error
    split.write_text("2099_000000\n")
    with pytest.raises(DatasetNotFound, match="of the 1 names in"):
        small_again(tmp_path)


def small_again(tmp_path) -> SegmentationDataset:
    return SegmentationDataset(
        "voc21",
        str(tmp_path / "VOCdevkit/VOC2012"),
        "JPEGImages",
        "SegmentationClass",
        split="ImageSets/Segmentation/val.txt",
        pipeline=PIPELINE,
    )


def test_suffixes_in_any_case_and_indices(tmp_path):
    dataset = small(tmp_path)
    path = Path(dataset.get_data_info(0)["img_path"])
    path.rename(path.with_suffix(".JPG"))
    assert len(small_again(tmp_path)) == 3
    assert "error" not in small_again(tmp_path)[0]["data_samples"].metainfo
    assert len(small(tmp_path, indices=2)) == 2


@pytest.mark.parametrize(
    "options, message",
    [
        (dict(on_error="ignore"), "'record' or 'raise'"),
        (dict(classes="ade847"), "65535"),
        (dict(classes="no_such_list"), "packaged lists ade20k, ade847,"),
        (dict(classes=None), "class names"),
    ],
)
def test_contradictory_settings(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        small(tmp_path, **options)


def test_packaged_class_lists():
    sizes = {name: benchmark.num_classes for name, benchmark in BENCHMARKS.items() if name in OFFICIAL}
    assert {name: len(load_class_names(name)) for name in sizes} == sizes
    assert load_class_names("voc20") == load_class_names("voc21")[1:]
    assert load_class_names("context59") == load_class_names("context60")[1:]
    assert load_class_names("coco_object")[1:] == load_class_names("coco_stuff")[:80]
    ids = (CLASSES_DIR / "ade847_ids.txt").read_text().split()
    assert len(set(ids)) == 847


@pytest.mark.parametrize("size, world", [(7, 1), (7, 2), (2, 4)])
def test_sampler_takes_every_sample_once(monkeypatch, size, world):
    taken = []
    for rank in range(world):
        monkeypatch.setattr("mmengine.dataset.sampler.get_dist_info", lambda r=rank: (r, world))
        sampler = EvalSampler(range(size))
        assert len(sampler) == len(list(sampler))
        taken += list(sampler)
        sampler.exclude({0, 3})
        assert not {0, 3} & set(sampler)
    assert sorted(taken) == list(range(size))
