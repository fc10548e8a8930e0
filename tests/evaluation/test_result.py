"""What travels with a result: complete, stable, safe to append to from many runs."""

import csv
import json
import multiprocessing
from dataclasses import fields, replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmengine.config import Config
from rich.console import Console

from ovseg.datasets.transforms import ResizeShortSide
from ovseg.evaluation import (
    MIOU_RULE,
    ResultRow,
    class_table,
    config_hash,
    failure_table,
    make_row,
    summarise,
    summary_table,
)

DESCRIPTION = dict(
    attention="SelfSelfAttention(q, k)",
    weights="openai/ViT-B-16",
    weights_sha256="ab" * 32,
    precision="fp32",
    vocabulary_hash="cd" * 8,
    templates="openai_80",
    refiners=[],
    supervision="CLIP: image-text pairs",
    crop=224,
    stride=112,
    threshold=0.1,
    background=0,
    logit_scale=40,
)


def dataset():
    return SimpleNamespace(
        metainfo=dict(benchmark="voc21", ignore_index=255, reduce_zero_label=False),
        pipeline=SimpleNamespace(transforms=[ResizeShortSide(336)]),
        root=Path("data/VOCdevkit/VOC2012"),
        img_dir="JPEGImages",
        mask_dir="SegmentationClass",
    )


def row(tmp_path, **changes) -> ResultRow:
    path = tmp_path / "sclip_vitb16_voc21.py"
    path.write_text('model = dict(vocabulary=dict(file="voc21", separator=", "))\nwork_dir = "x"\n')
    made = make_row(
        Config.fromfile(path),
        summarise(torch.tensor([[3, 1], [0, 4]])),
        model=DESCRIPTION,
        dataset=dataset(),
        images=1449,
        skipped=0,
        seconds=100.0,
        device=torch.device("cpu"),
    )
    return replace(made, **changes)


def test_everything_the_protocol_asks_for_is_there(tmp_path):
    r = row(tmp_path)
    assert (r.method, r.dataset, r.short_side, r.crop, r.stride) == ("sclip_vitb16_voc21", "VOC21", 336, 224, 112)
    assert (r.vocabulary, r.vocabulary_hash, r.templates) == ("voc21", "cd" * 8, "openai_80")
    assert (r.weights, r.weights_sha256, r.precision) == ("openai/ViT-B-16", "ab" * 32, "fp32")
    assert (r.background, r.threshold, r.supervision) == (0, 0.1, "CLIP: image-text pairs")
    assert r.model == {"logit_scale": 40}
    assert r.versions["torch"] == torch.__version__.split("+")[0] or r.versions["torch"]
    assert r.peak_rss_mb > 50 and r.peak_cuda_mb is None and "threads" in r.device
    assert r.complete and r.images == 1449
    assert r.data["root"] == "data/VOCdevkit/VOC2012" and r.data["ignore_index"] == 255
    assert len(r.config_hash) == 16


def test_a_part_of_a_benchmark_is_marked(tmp_path):
    r = row(tmp_path, images=20, complete=False)
    console = Console(width=120, record=True, file=open("/dev/null", "w"))
    console.print(summary_table(r))
    text = console.export_text()
    assert "not comparable to published numbers" in " ".join(text.split()) and "77.50" in text


def test_json_holds_the_rule_and_has_no_nan(tmp_path):
    r = row(tmp_path, mIoU=float("nan"))
    r.write_json(tmp_path / "r.json", [{"name": "a", "iou": np.nan}])
    text = (tmp_path / "r.json").read_text()
    value = json.loads(text)
    assert "NaN" not in text and value["mIoU"] is None and value["miou_rule"] == MIOU_RULE
    assert value["per_class"] == [{"name": "a", "iou": None}]


def test_config_hash_changes_with_numbers_only(tmp_path):
    base = dict(model=dict(head=dict(threshold=0.1)), test_dataloader=dict(num_workers=2, dataset=dict(data_root="a")))
    plain = config_hash(Config(base))
    moved = dict(base, work_dir="elsewhere", launcher="pytorch", default_hooks=dict(show=dict(type="X")))
    moved["test_dataloader"] = dict(num_workers=0, dataset=dict(data_root="b"))
    assert config_hash(Config(moved)) == plain
    assert config_hash(Config(dict(base, model=dict(head=dict(threshold=0.2))))) != plain
    assert config_hash(Config(dict(base, short_side=448))) != plain


def test_csv_rows_share_a_header_that_states_the_rule(tmp_path):
    path = tmp_path / "results.csv"
    for method in ("a", 'with "quotes", and comma'):
        assert row(tmp_path, method=method).append_csv(path) == path
    with open(path, newline="") as file:
        rows = list(csv.DictReader(file))
    assert [r["method"] for r in rows] == ["a", 'with "quotes", and comma']
    assert float(rows[0]["mIoU (union>0)"]) == 77.5 and "mIoU_present (gt>0)" in rows[0]
    assert len(rows[0]) == len(fields(ResultRow))
    assert json.loads(rows[0]["versions"])["python"]


def test_csv_of_another_version_is_left_alone(tmp_path):
    path = tmp_path / "results.csv"
    path.write_text("method,mIoU\nold,12.7\n")
    written = row(tmp_path).append_csv(path)
    assert written != path and written.parent == tmp_path
    assert path.read_text() == "method,mIoU\nold,12.7\n"
    assert row(tmp_path).append_csv(path) == written
    assert len(written.read_text().splitlines()) == 3


def _append(arguments):
    path, made = arguments
    made.append_csv(path)


def test_many_processes_append_to_one_csv(tmp_path):
    made = row(tmp_path)
    path = tmp_path / "results.csv"
    with multiprocessing.get_context("fork").Pool(4) as pool:
        pool.map(_append, [(path, replace(made, method=f"m{i}")) for i in range(24)])
    with open(path, newline="") as file:
        assert sorted(r["method"] for r in csv.DictReader(file)) == sorted(f"m{i}" for i in range(24))


def shown(table) -> str:
    console = Console(width=120, record=True, file=open("/dev/null", "w"))
    console.print(table)
    return console.export_text()


def test_class_table_is_shortened_unless_asked():
    records = summarise(torch.diag(torch.arange(40))).per_class([f"class{i}" for i in range(40)])
    text = shown(class_table(records))
    assert "29 more" in text and "class0 " not in text  # class 0 has no pixels
    text = shown(class_table(records, everything=True))
    assert "more" not in text and "class0 " in text


def test_failure_table_counts():
    text = shown(failure_table([{"name": f"n{i}", "error": "the file is empty"} for i in range(25)]))
    assert "25 samples skipped" in text and "5 more" in text


@pytest.mark.parametrize("checkpoint", [True, False])
def test_checkpoint_is_recorded_with_its_hash(tmp_path, checkpoint):
    cfg = Config(dict(model=dict()))
    if checkpoint:
        (tmp_path / "w.pth").write_bytes(b"weights")
        cfg.load_from = str(tmp_path / "w.pth")
    r = make_row(
        cfg,
        summarise(torch.eye(2, dtype=torch.int64)),
        model={},
        dataset=dataset(),
        images=2,
        skipped=1,
        seconds=1.0,
        device=torch.device("cpu"),
    )
    import hashlib

    assert r.checkpoint_sha256 == (hashlib.sha256(b"weights").hexdigest() if checkpoint else None)
    assert not r.complete
