import multiprocessing
import time

import cv2
import numpy as np
import pytest
import torch

from ovseg.nano.dataset import SceneCaptions, _textures, stack_captions
from ovseg.nano.textures import BACKGROUNDS, PLAIN
from tests.nano.conftest import FIXTURES


@pytest.fixture(scope="module")
def data() -> SceneCaptions:
    return SceneCaptions(sprites=str(FIXTURES), size=64, length=1000, easy=100)


def test_samples_depend_on_seed_and_index_only(data):
    again = SceneCaptions(sprites=str(FIXTURES), size=64, length=1000, easy=100)
    other = SceneCaptions(sprites=str(FIXTURES), size=64, length=1000, easy=100, seed=1)
    for index in (3, 500):
        assert np.array_equal(data[index]["inputs"], again[index]["inputs"])
        assert data[index]["words"] == again[index]["words"]
        assert not np.array_equal(data[index]["inputs"], other[index]["inputs"])


def test_captions_name_known_words_once(data):
    known = {*data.book.words, *BACKGROUNDS, PLAIN}
    for index in range(50, 150):
        words = data[index]["words"]
        assert words and set(words) <= known and len(set(words)) == len(words)


def test_easy_samples_show_fewer_objects(data):
    easy = np.mean([len(data[i]["words"]) for i in range(100)])
    later = np.mean([len(data[i]["words"]) for i in range(100, 200)])
    assert easy < later


def test_no_mask_leaves_the_data_set(data):
    assert data[0].keys() == {"inputs", "words"}


def test_batches_are_one_tensor(data):
    batch = stack_captions([data[0], data[1], data[2]])
    assert batch["inputs"].shape == (3, 3, 64, 64) and batch["inputs"].dtype == torch.uint8
    assert len(batch["words"]) == 3


def test_absent_photos_are_no_error():
    data = SceneCaptions(sprites=str(FIXTURES), size=64, photos="nowhere/photos")
    assert data[0]["inputs"].shape == (3, 64, 64)


def test_a_worker_forked_beside_opencv_s_threads_draws():
    """OpenCV ends waiting threads when it is told another number; in a forked child there are none to end."""
    before = cv2.getNumThreads()
    cv2.setNumThreads(2)
    cv2.GaussianBlur(np.zeros((2000, 2000, 3), np.uint8), (0, 0), 5)
    time.sleep(1)  # the threads wait by now
    worker = multiprocessing.get_context("fork").Process(target=_textures.__wrapped__, args=(16,))
    worker.start()
    worker.join(60)
    hangs = worker.is_alive()
    worker.kill()
    cv2.setNumThreads(before)
    assert not hangs and worker.exitcode == 0
