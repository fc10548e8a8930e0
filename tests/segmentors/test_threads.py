"""Threads that share a model get what they would get one after another."""

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from ovseg import Segmenter
from ovseg.apis import available_methods

WORDS = ["cat", "sofa", "grass"]
RNG = np.random.default_rng(0)
PHOTOS = [np.kron(RNG.integers(0, 255, (3, 4, 3), np.uint8), np.ones((40, 40, 1), np.uint8)) for _ in range(4)]
FAST = ("clearclip", "naclip")


def methods():
    return [m if m in FAST else pytest.param(m, marks=pytest.mark.slow) for m in available_methods()]


def build(method: str, tmp_path, monkeypatch) -> Segmenter:
    monkeypatch.setenv("OVSEG_CACHE", str(tmp_path))
    try:
        model = Segmenter("nano", method, short_side=112)
    except (ImportError, RuntimeError) as error:
        pytest.skip(str(error).splitlines()[0])
    model.set_vocabulary(WORDS)
    return model


@pytest.mark.parametrize("method", methods())
def test_threads_get_the_labels_of_one_after_another(method, tmp_path, monkeypatch):
    model = build(method, tmp_path, monkeypatch)
    with ThreadPoolExecutor(2) as pool:
        together = [r.labels for r in pool.map(model.segment, PHOTOS)]
    again = build(method, tmp_path / "fresh", monkeypatch)
    for labels, photo in zip(together, PHOTOS, strict=True):
        np.testing.assert_array_equal(labels, again.segment(photo).labels)


def test_photos_prepared_at_once_keep_the_mask_source(tmp_path, monkeypatch):
    """SamClipSegmentor hid its mask source while it prepared a photo: of two threads one put back None for good."""
    model = build("sam_clip", tmp_path, monkeypatch).model
    source, inside, checked = model.regions, threading.Barrier(2, timeout=20), []
    original = type(model.backbone).normalise

    def slowly(self, image):
        inside.wait()  # both threads are in prepare() now
        checked.append(model.regions is source)
        return original(self, image)

    monkeypatch.setattr(type(model.backbone), "normalise", slowly)
    image = torch.from_numpy(PHOTOS[0]).permute(2, 0, 1)
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda _: model.prepare(image, image.shape[1:], image), range(2)))
    assert checked == [True, True] and model.regions is source
