"""Exported graphs do what the model does, for windows of all shapes and any words."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
import torch

from ovseg import Segmenter
from ovseg.export import (
    ExportError,
    OnnxEngine,
    WindowGraph,
    check_onnx,
    export_program,
    not_exportable_reasons,
    quantise_onnx,
    read_settings,
    write_onnx,
)

WORDS = ["dog", "cat", "red apple", "grass", "background"]
pytest.importorskip("onnxruntime", reason="the extra `export` is not installed")
pytest.importorskip("onnxscript", reason="the extra `export` is not installed")


def photo(height: int, width: int) -> np.ndarray:
    rows, columns = np.mgrid[:height, :width]
    colours = (rows * 3 % 256, columns * 5 % 256, (rows + columns) % 256)
    return np.stack(colours, axis=-1).astype(np.uint8)


@pytest.fixture(scope="module")
def segmenter() -> Segmenter:
    made = Segmenter("nano", "naclip", device="cpu", precision="fp32")
    made.set_vocabulary(WORDS)
    return made


@pytest.fixture(scope="module")
def exported(segmenter, tmp_path_factory):
    path = tmp_path_factory.mktemp("export") / "naclip.onnx"
    found = write_onnx(segmenter.model, path)
    assert found.difference < 1e-4
    assert found.labels == 1
    return path


def test_program_serves_windows_of_all_shapes(segmenter):
    graph = WindowGraph(segmenter.model).eval()
    program = export_program(segmenter.model).module()
    patch, native = segmenter.model.backbone.patch_size, segmenter.model.backbone.tower.native_grid
    shapes = [(1, *native, 1), (2, native[0] * 4, max(2, native[1] // 4), 7), (1, 2, 3, 2), (3, 9, 11, 847)]
    for count, rows, columns, words in shapes:
        images = torch.rand(count, 3, rows * patch, columns * patch) * 255
        text = torch.nn.functional.normalize(torch.randn(words, segmenter.model.backbone.tower.embed_dim), dim=-1)
        with torch.no_grad():
            wanted = graph(images, text)
        torch.testing.assert_close(program(images, text), wanted, atol=1e-5, rtol=0)


def test_a_hybrid_tower_is_exported_for_windows_of_all_shapes():
    """nano-photo's convolutions pad as their input's size asks for: odd and even numbers of patches."""
    model = Segmenter("nano-photo", "naclip", device="cpu", precision="fp32").model
    graph, program = WindowGraph(model).eval(), export_program(model).module()
    for rows, columns in ((16, 16), (9, 11), (3, 4), (21, 14)):
        images = torch.rand(1, 3, rows * 16, columns * 16) * 255
        text = torch.nn.functional.normalize(torch.randn(3, model.backbone.tower.embed_dim), dim=-1)
        with torch.no_grad():
            torch.testing.assert_close(program(images, text), graph(images, text), atol=1e-5, rtol=0)


def test_file_says_what_it_was_made_of(exported, segmenter):
    settings = read_settings(exported)
    assert settings["patch"] == segmenter.model.backbone.patch_size
    assert settings["weights"] == "nano"
    assert settings["head"]["logit_scale"] == segmenter.model.head.logit_scale


@pytest.mark.parametrize("size", [(150, 211), (64, 400), (1, 1), (40, 33)])
def test_engine_gives_the_models_labels_with_changed_words(exported, segmenter, size):
    other = copy.deepcopy(segmenter)
    other.model.engine = OnnxEngine(exported)
    for words in (WORDS, ["tree", "snow"]):
        segmenter.set_vocabulary(words)
        other.set_vocabulary(words)
        assert np.array_equal(other.segment(photo(*size)).labels, segmenter.segment(photo(*size)).labels)
    segmenter.set_vocabulary(WORDS)


def test_engine_survives_pickling(exported):
    assert pickle.loads(pickle.dumps(OnnxEngine(exported))).settings == read_settings(exported)


def test_engine_of_other_weights_is_refused(exported, segmenter):
    other = copy.deepcopy(segmenter)
    other.model.engine = OnnxEngine(exported)
    other.segment(photo(64, 64))
    other.model.backbone.clip.visual.proj.data.mul_(2)
    with pytest.raises(ExportError, match="weights_content"):
        other.segment(photo(64, 64))


def test_int8_is_small_and_close(exported, segmenter, tmp_path):
    path = tmp_path / "int8.onnx"
    quantise_onnx(exported, path)
    assert path.stat().st_size < 0.5 * exported.stat().st_size
    found = check_onnx(segmenter.model, path)
    assert 1e-5 < found.difference < 0.2
    assert read_settings(path) == read_settings(exported)


def test_what_cannot_be_exported_is_told(segmenter, tmp_path):
    guided = Segmenter("nano", "proxyclip", device="cpu", precision="fp32").model
    assert "guide" in not_exportable_reasons(guided)[0]
    with pytest.raises(ExportError, match="DinoBackbone"):
        write_onnx(guided, tmp_path / "no.onnx")
    assert not list(tmp_path.iterdir())
    assert not not_exportable_reasons(segmenter.model)


def test_files_of_others_are_refused(tmp_path):
    (tmp_path / "page.onnx").write_text("<html>not found</html>")
    with pytest.raises(ExportError, match="page.onnx cannot be opened"):
        read_settings(tmp_path / "page.onnx")
    with pytest.raises(ExportError, match="is no file"):
        OnnxEngine(tmp_path / "none.onnx")
