"""Guide features from disk are those of the guide, whatever the cache holds."""

import warnings

import pytest
import torch

from ovseg.backbones import CachedGuide, DinoBackbone
from tests.small_guides import use_small_guides
from tests.small_models import images
from tests.weight_edits import EDITS

MEAN, STD = torch.full((3, 1, 1), 120.0), torch.full((3, 1, 1), 65.0)
SOURCE = dict(type="DinoBackbone", weights="dino/vitb8", pos_embed="size")


@pytest.fixture(autouse=True)
def small(monkeypatch):
    use_small_guides(monkeypatch)


def counted(guide):
    """How many windows the source was asked for, call by call."""
    calls = []
    guide.source.register_forward_pre_hook(lambda module, args: calls.append(len(args[0])))
    return calls


def test_only_missing_windows_are_encoded_and_results_are_bit_equal(tmp_path):
    windows = images(3, 3, 64, 48)
    plain = DinoBackbone("dino/vitb8", pos_embed="size")(windows, MEAN, STD)
    guide = CachedGuide(SOURCE, folder=tmp_path)
    calls = counted(guide)
    guide(windows[1:2], MEAN, STD)
    cold, warm = guide(windows, MEAN, STD), guide(windows, MEAN, STD)
    assert calls == [1, 2]
    for out in (cold, warm):
        assert out.grid == plain.grid == (8, 6) and torch.equal(out.tokens, plain.tokens)
    again = CachedGuide(SOURCE, folder=tmp_path)  # another process
    calls = counted(again)
    assert torch.equal(again(windows, MEAN, STD).tokens, plain.tokens) and calls == []


def test_other_settings_pixels_and_normalisations_are_not_mistaken(tmp_path):
    windows = images(1, 3, 32, 32)
    CachedGuide(SOURCE, folder=tmp_path)(windows, MEAN, STD)
    for source, w, mean in (
        ({**SOURCE, "feature": "k"}, windows, MEAN),
        ({**SOURCE, "pos_embed": "scale"}, windows, MEAN),
        ({**SOURCE, "block": 0}, windows, MEAN),
        (SOURCE, windows + 1e-6, MEAN),
        (SOURCE, windows, MEAN + 1),
    ):
        guide = CachedGuide(source, folder=tmp_path)
        calls = counted(guide)
        guide(w, mean, STD)
        assert calls == [1]


@pytest.mark.parametrize("edit", EDITS)
def test_features_of_changed_weights_are_kept_apart(tmp_path, edit):
    windows = images(2, 3, 64, 48)
    guide = CachedGuide(SOURCE, folder=tmp_path)
    before = guide(windows, MEAN, STD).tokens
    guide.source = EDITS[edit](guide.source)
    expected = guide.source(windows, MEAN, STD).tokens
    assert not torch.allclose(before, expected, atol=1e-3)
    for _ in range(2):
        assert torch.equal(guide(windows, MEAN, STD).tokens, expected)
    assert torch.equal(CachedGuide(SOURCE, folder=tmp_path)(windows, MEAN, STD).tokens, before)


def test_half_precision_rounds_hit_and_miss_alike(tmp_path):
    windows = images(2, 3, 32, 32)
    guide = CachedGuide(SOURCE, folder=tmp_path, dtype="float16")
    first, second = guide(windows, MEAN, STD).tokens, guide(windows, MEAN, STD).tokens
    assert torch.equal(first, second) and first.dtype == torch.float32
    assert torch.equal(first, first.half().float()) and guide.describe()["stored_as"] == "float16"
    assert (first - CachedGuide(SOURCE, folder=tmp_path)(windows, MEAN, STD).tokens).abs().max() < 1e-3
    with pytest.raises(ValueError, match="dtype is 'bf16'"):
        CachedGuide(SOURCE, dtype="bf16")


@pytest.mark.parametrize("damage", [lambda p: p.write_bytes(b""), lambda p: p.write_bytes(p.read_bytes()[:100])])
def test_damaged_files_count_as_absent(tmp_path, damage):
    windows = images(1, 3, 32, 32)
    guide = CachedGuide(SOURCE, folder=tmp_path)
    expected = guide(windows, MEAN, STD).tokens
    (path,) = tmp_path.glob("*/*.npy")
    damage(path)
    calls = counted(guide)
    assert torch.equal(guide(windows, MEAN, STD).tokens, expected) and calls == [1]
    assert torch.equal(guide(windows, MEAN, STD).tokens, expected) and calls == [1]  # written anew


def test_a_full_or_unwritable_folder_costs_one_warning_and_no_result(tmp_path):
    windows = images(3, 3, 32, 32)
    plain = DinoBackbone("dino/vitb8", pos_embed="size")(windows, MEAN, STD).tokens
    size = plain[0].numel() * 4
    full = CachedGuide(SOURCE, folder=tmp_path / "full", limit_gb=2.5 * size / 1e9)
    (tmp_path / "file").write_text("no folder")
    unwritable = CachedGuide(SOURCE, folder=tmp_path / "file")
    for guide in (full, unwritable):
        with pytest.warns(UserWarning, match="no longer cached"):
            assert torch.equal(guide(windows, MEAN, STD).tokens, plain)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert torch.equal(guide(windows, MEAN, STD).tokens, plain)
        assert len(list((tmp_path / "full").glob("*/*.npy"))) == 2
