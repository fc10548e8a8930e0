"""Official weights in, the official outputs out.

The goldens hold what the methods' official code gave with deterministic stand-in weights; each method's own VOC21
config must give the same from the same files, through the real loaders and the real data pipeline. Goldens lie in the
folder named by ``OVSEG_PARITY_DIR`` (default ``../shared/parity``): ``images/<image>.png``,
``goldens/<method>/<image>.npz`` with ``<image>_argmax.png`` and ``text.npz``, ``pseudo_weights.py``.
"""

from __future__ import annotations

import numpy as np
import pytest

from tests.parity.cases import CASES, PARITY, Golden, goldens, methods
from tests.parity.measure import LABEL_BAR, QUERY_BAR, RANGE_BAR, but_for_single_pixels, compare, measure, query_order

GOLDENS = goldens()
SLOW_KEYS = ("logits", "probs", "argmax", "argmax_nothresh")


def _checks() -> list:
    checks = []
    for golden in GOLDENS:
        case = CASES.get(golden.name)
        keys = ["query"] if case is None or not case.text_given else []
        for key in [*keys, *golden.arrays]:
            slow = case is not None and case.slow and key in SLOW_KEYS
            checks.append(pytest.param(golden, key, id=f"{golden}-{key}", marks=[pytest.mark.slow] if slow else []))
    return checks


def _need(golden: Golden) -> None:
    if golden.name not in CASES:
        pytest.skip(f"no method of ovseg answers the golden {golden.name!r}; add it to tests/parity/cases.py")
    if not CASES[golden.name].config_path.is_file():
        pytest.skip(f"{CASES[golden.name].config_path.name} does not exist yet")
    if not golden.photo.is_file():
        pytest.skip(f"the golden's photo {golden.photo} is missing")


@pytest.mark.skipif(not GOLDENS, reason=f"no goldens under {PARITY} (set OVSEG_PARITY_DIR)")
@pytest.mark.parametrize(("golden", "key"), _checks())
def test_fp32_equals_the_official_code(golden: Golden, key: str) -> None:
    _need(golden)
    first_window_only = CASES[golden.name].slow and key not in SLOW_KEYS
    figures = measure(golden, first_window_only)
    assert key in figures, f"{golden}: nothing of ovseg is compared with the golden's {key!r}"
    print(figures[key])
    assert figures[key].passed, f"{golden}: {figures[key]}"


@pytest.mark.slow
@pytest.mark.skipif(not GOLDENS, reason=f"no goldens under {PARITY} (set OVSEG_PARITY_DIR)")
@pytest.mark.parametrize("golden", GOLDENS, ids=str)
def test_bf16_stays_near_fp32(golden: Golden) -> None:
    """bf16 has three digits: figures are stated in docs/fidelity.md, here only gross errors are excluded."""
    _need(golden)
    figures = measure(golden, CASES[golden.name].slow, "bf16")
    for key in ("logits", "grid", "grid_logits"):
        assert key not in figures or figures[key].value < 0.1, str(figures[key])
    assert "argmax" not in figures or figures["argmax"].value > 0.9, str(figures["argmax"])


@pytest.mark.parametrize("method", methods())
def test_every_method_is_proven_or_listed(method: str) -> None:
    have = {golden.name for golden in GOLDENS}
    if not any(case.method == method and name in have for name, case in CASES.items()):
        pytest.skip(f"unproven: {method} has no golden under {PARITY}")


def test_goldens_of_other_photos_are_found_by_their_files_alone(tmp_path, monkeypatch):
    monkeypatch.setattr("tests.parity.cases.PARITY", tmp_path)
    folder = tmp_path / "goldens" / "sclip"
    for name in ("text", "text_aux", "street", "a.b"):
        folder.mkdir(parents=True, exist_ok=True)
        np.savez(folder / f"{name}.npz", query=np.zeros((1, 2)), words=np.array(["cat"]), idx=np.zeros(1, int))
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "street.jpg").touch()
    (tmp_path / "goldens" / "corrclip_masks").mkdir()
    np.savez(tmp_path / "goldens" / "corrclip_masks" / "street.npz", instance_mask=np.ones((2, 3)))
    found = goldens()
    assert [(g.name, g.image) for g in found] == [("sclip", "a.b"), ("sclip", "street")]
    assert found[1].photo == tmp_path / "images" / "street.jpg" and not found[0].photo.is_file()
    assert found[1].words == ["cat"] and found[1].regions("corrclip_masks").shape == (2, 3)
    assert "argmax" not in found[1].arrays


# ---------------------------------------------------------------------- the comparison itself can fail
def test_a_wrong_number_is_seen():
    recorded = np.linspace(-1, 1, 48, dtype=np.float32).reshape(3, 4, 4)
    wrong = recorded.copy()
    wrong[1, 2, 3] += 3 * RANGE_BAR
    assert compare("logits", recorded, recorded).passed
    assert not compare("logits", recorded, wrong).passed
    assert not compare("query", recorded, recorded + 2 * QUERY_BAR).passed


def test_single_pixels_at_a_cut_are_forgiven_and_no_more():
    recorded = np.zeros((2, 20, 20), np.float32)
    recorded[0] = 1
    few, many = recorded.copy(), recorded.copy()
    few[0, 0, :3] += 0.01
    many[0, :2, :10] += 0.01
    for ours, passes in ((few, True), (many, False)):
        figure = compare("logits", recorded, ours)
        assert not figure.passed
        assert but_for_single_pixels(figure, recorded, ours).passed is passes


def test_wrong_labels_are_seen():
    recorded = np.zeros((100, 100), np.uint8)
    wrong = recorded.copy()
    wrong.flat[: int(wrong.size * (1 - LABEL_BAR)) + 1] = 1
    assert compare("argmax", recorded, recorded).passed
    assert not compare("argmax", recorded, wrong).passed


def test_words_are_matched_whatever_their_order():
    assert query_order(("bed", "cat", "bed"), ["bed", "bed", "cat"]) == [0, 2, 1]
    with pytest.raises(ValueError, match="dog"):
        query_order(("cat",), ["dog"])
