"""What explain says of methods that have no embedded weights, with stand-ins of the parity suite and small models."""

import numpy as np
import pytest

import ovseg
from ovseg import explain
from tests.decoders.test_dense_clip import WORDS, build, photo  # noqa: F401
from tests.parity.cases import CASES, load_config

build_dense = build
PHOTO = np.kron(np.random.default_rng(0).integers(0, 256, (9, 13, 3), dtype=np.uint8), np.ones((16, 16, 1), np.uint8))
AT = (100, 60)


def encoded(name: str) -> ovseg.EncodedImage:
    """A photo, encoded by a case of the parity suite; skips where its weights are not there."""
    segmenter = ovseg.load(load_config(CASES[name]), precision="fp32", short_side=160)
    segmenter.set_vocabulary(["cat", "grass"])
    return segmenter.encode(PHOTO)


@pytest.mark.parametrize("name, total", [("cliptrase_224", 3), ("talk2dino_nobg", 1), ("dinotxt_head", 1)])
def test_attention_and_words_of_a_patch(name, total):
    one = encoded(name)
    found = explain.attention_at(one, AT)
    assert found.total == pytest.approx(total, abs=1e-4) and np.isfinite(found.weights).all()
    x0, y0, x1, y1 = found.patch
    assert x0 <= AT[0] < x1 and y0 <= AT[1] < y1
    assert {c.name for c in explain.words_at(one, AT).classes} == {"cat", "grass"}
    assert explain.heat_maps(one).maps.shape[1:] == PHOTO.shape[:2]


def test_two_blocks_that_mix_values_have_no_weights_and_say_so():
    one = encoded("vip")
    with pytest.raises(explain.AttentionNotReadable, match="HeadProxyAttention cannot be read: its tokens change"):
        explain.attention_at(one, AT)
    assert {c.name for c in explain.words_at(one, AT).classes} == {"cat", "grass"}
    assert explain.heat_maps(one).maps.shape[1:] == PHOTO.shape[:2]


def test_denseclip_has_heat_maps_and_no_patches_to_look_at(build_dense):
    model, image = build_dense(), photo(70, 90)
    record = model.encode([model.prepare(image, (70, 90))])[0]
    one = ovseg.EncodedImage(model, None, record, image.permute(1, 2, 0).numpy(), model.watch())
    for function in (explain.attention_at, explain.words_at):
        with pytest.raises(ValueError, match="DenseClipSegmentor decides by a trained decoder"):
            function(one, (5, 5))
    assert explain.heat_maps(one, classes=WORDS[:2]).maps.shape == (2, 70, 90)
