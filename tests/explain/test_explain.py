"""What explain says of whole methods, against what the methods do."""

from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config

import ovseg
from ovseg import explain
from ovseg.apis import available_methods, config_root, has_own_config, method_config
from ovseg.explain.embeddings import patch_embeddings
from tests.segmentors import test_mask as mask_parts
from tests.segmentors.test_decoder import build, photos  # noqa: F401

build_mask = mask_parts.build

PHOTO = np.kron(np.random.default_rng(0).integers(0, 256, (9, 13, 3), dtype=np.uint8), np.ones((16, 16, 1), np.uint8))
WORDS = {"cat": ["kitten"], "grass": [], "sofa": ["couch", "settee"]}
AT = (100, 60)


def encoded(method="naclip", weights="nano", **model):
    config = method_config(method, weights)
    config.model.merge_from_dict(model) if isinstance(config.model, Config) else config.model.update(model)
    segmenter = ovseg.load(config, precision="fp32", short_side=96)
    segmenter.set_vocabulary(WORDS)
    return segmenter.encode(PHOTO)


@pytest.fixture(scope="module")
def naclip():
    return encoded(windows=dict(crop=64, stride=32, batch=4))


def test_attention_of_the_nearest_window(naclip):
    found = explain.attention_at(naclip, AT)
    model, record = naclip.opened()
    ((x0, y0, x1, y1),) = found.windows
    assert x0 <= AT[0] < x1 and y0 <= AT[1] < y1
    assert found.total == pytest.approx(1, abs=1e-5) and found.map.shape == PHOTO.shape[:2]
    assert not found.map[:y0].any() and not found.map[:, x1:].any(), "nothing outside of the window"
    left, top, right, bottom = found.patch
    assert left <= AT[0] < right and top <= AT[1] < bottom
    # the same window through the attention alone, its rows put in place by hand
    encoder = model.encoder
    window = [
        i
        for i in range(len(record.layout))
        if explain.attention._window_box(record.layout, i, naclip.size) == found.windows[0]
    ]
    context = encoder.context(encoder.cut(record.photo, record.layout))
    block = context.tower.blocks[-1]
    k = block.qkv(block.norm1(context.x[window]))[1][0]
    grid = context.grid
    cell = [
        int(((n + 0.5) / m * size - start) / length * g)
        for n, m, size, start, length, g in zip(
            reversed(AT),
            naclip.size,
            record.layout.image_size,
            explain.attention._starts(record.layout, window[0]),
            record.layout.padded,
            grid,
            strict=True,
        )
    ]
    from ovseg.ops.reference import neighbour_bias

    bias = neighbour_bias(grid, model.attention.std, k.shape[1], k.device)
    want = (k @ k.mT * block.scale + bias).softmax(-1).mean(0)[1 + cell[0] * grid[1] + cell[1]]
    np.testing.assert_allclose(found.weights[0].ravel(), want[1:], atol=2e-6)
    np.testing.assert_allclose(found.prefix[0], want[:1], atol=2e-6)


ROWS = {
    "clip": 1, "clearclip": 1, "cliper": 1, "cliptrase": 3, "corrclip": 2.5, "itaclip": 2, "maskclip": 1,
    "naclip_pamr": 1, "proxyclip": 1, "radseg": 1, "scclip": 2, "sclip": 2, "sfp": 2, "trident": 1,
}  # fmt: skip


EMBEDDED = [method for method in available_methods() if has_own_config(method, "nano")]


NO_ATTENTION = ("decomposition",)


@pytest.mark.parametrize("method", [method for method in EMBEDDED if method not in {"naclip", *NO_ATTENTION}])
def test_rows_sum_to_what_the_method_adds_up(method):
    found = explain.attention_at(encoded(method), AT)
    assert found.total == pytest.approx(ROWS[method], abs=1e-4) if method in ROWS else found.total > 0
    assert np.isfinite(found.weights).all() and (method not in ROWS or found.weights.min() > -1e-5)
    x0, y0, x1, y1 = found.patch
    assert x0 <= AT[0] < x1 and y0 <= AT[1] < y1


def test_maskclip_attends_to_its_own_patch_alone():
    found = explain.attention_at(encoded("maskclip"), AT)
    assert found.weights.max() == pytest.approx(1) and (found.weights > 1e-6).sum() == 1
    assert found.map[AT[1], AT[0]] == found.own == pytest.approx(1) and found.others < 1e-6


def test_trident_mixes_windows_of_the_whole_photo():
    found = explain.attention_at(encoded("trident"), AT)
    assert len(found.windows) == len(found.weights) > 1
    assert sum(part.any() for part in found.weights) > 1


@pytest.mark.parametrize("method", NO_ATTENTION)
def test_what_cannot_be_read_is_said(method):
    with pytest.raises(explain.AttentionNotReadable, match="DecomposedAttention cannot be read: it takes the last"):
        explain.attention_at(encoded(method), AT)


DECODERS = [
    path.name
    for path in sorted((Path(config_root()) / "nano").glob("*.py"))
    if Config.fromfile(path).get("model", {}).get("type") == "DecoderSegmentor"
]


@pytest.mark.parametrize("name", DECODERS)
def test_trained_decoders_of_the_small_configs_have_heat_maps_and_say_so(name):
    """A recipe that has not run has random weights, which does not matter here."""
    config = Config.fromfile(Path(config_root()) / "nano" / name)
    segmenter = ovseg.load(config, precision="fp32", short_side=96)
    segmenter.set_vocabulary(WORDS)
    one = segmenter.encode(PHOTO)
    for function in (explain.attention_at, explain.words_at):
        with pytest.raises(ValueError, match="trained decoder: .*heat maps and errors are for it too"):
            function(one, AT)
    assert explain.heat_maps(one).maps.shape[0] >= 1


def test_reading_leaves_the_photo_as_it_was():
    one = encoded("cliptrase")
    before = one.segment()
    explain.attention_at(one, AT)
    assert (one.segment().labels == before.labels).all()


@pytest.mark.parametrize("at", [(208, 0), (0, 144), (-1, 0)])
def test_a_pixel_outside(naclip, at):
    for function in (explain.attention_at, explain.words_at):
        with pytest.raises(ValueError, match="lies outside of the photo of 208 x 144"):
            function(naclip, at)


def test_colours_follow_the_embeddings(naclip):
    found = explain.embedding_colours(naclip)
    assert found.picture.shape == PHOTO.shape and found.picture.dtype == np.uint8
    flat = patch_embeddings(naclip.opened()[1]).flatten(0, 2).double()
    spread = torch.linalg.svdvals(flat - flat.mean(0)) ** 2
    np.testing.assert_allclose(found.explained, (spread / spread.sum())[:3], rtol=1e-4)
    assert (explain.embedding_colours(naclip).picture == found.picture).all()


@pytest.mark.parametrize("method", ["naclip", "naclip_pamr", "maskclip", "cliper"])
def test_heat_maps_are_the_probabilities_of_the_head(method):
    one = encoded(method)
    model, record = one.opened()
    wording = one.wording()
    found = explain.heat_maps(one, classes=["sofa", "cat"], max_side=80)
    assert found.step == 3 and found.maps.shape == (2, 48, 70) and found.names == ("sofa", "cat")
    evidence = model.evidence(model.score_map(record, wording), wording)
    if method == "cliper":
        classes, values = evidence.top(3)
        for name, index in (("sofa", 2), ("cat", 0)):
            want = torch.where(classes == index, values, torch.zeros(())).sum(0)[::3, ::3]
            np.testing.assert_allclose(found.of(name), want, atol=1e-6)
    else:
        whole = evidence.probabilities()[[2, 0]][:, ::3, ::3]
        np.testing.assert_allclose(found.maps, whole, atol=1e-6)


def test_heat_maps_of_the_largest_classes(naclip):
    areas = naclip.segment().areas()
    assert explain.heat_maps(naclip).names == tuple(areas)
    assert explain.heat_maps(naclip, most=1).names == tuple(areas)[:1]
    assert set(explain.heat_maps(naclip, ["dog", "tree"]).names) <= {"dog", "tree"}
    with pytest.raises(ValueError, match="'cow' is not among"):
        explain.heat_maps(naclip, classes=["cow"])
    with pytest.raises(KeyError, match="no map of 'x'"):
        explain.heat_maps(naclip).of("x")


def test_words_and_templates_add_up_to_the_scores(naclip):
    found = explain.words_at(naclip, AT)
    model, record = naclip.opened()
    wording = naclip.wording()
    scores = model.score_map(record, wording).block(rows=slice(AT[1], AT[1] + 1), columns=slice(AT[0], AT[0] + 1))[
        :, 0, 0
    ]
    by_word = dict(zip(wording.vocabulary.queries, scores.tolist(), strict=True))
    assert {w: s for one in found.classes for w, s in one.words} == pytest.approx(by_word, abs=1e-5)
    best = max(by_word, key=by_word.get)
    assert found.classes[0].word == best
    assert found.label == found.classes[0].name == naclip.segment().names[naclip.segment().labels[AT[1], AT[0]]]
    assert len(found.templates) == len(model.text_encoder.templates) == 80
    assert sum(t.first for t in found.templates) == pytest.approx(found.classes[0].score, abs=1e-4)
    assert sum(t.second for t in found.templates) == pytest.approx(found.classes[1].score, abs=1e-4)
    margins = [t.margin for t in found.templates]
    assert margins == sorted(margins, reverse=True)
    embedding = explain.embedding_at(naclip, AT)
    texts = [model.text_encoder.templates.prompts(one.word) for one in found.classes[:2]]
    first, second = (model.text_encoder.encode_prompts(prompts) @ embedding for prompts in texts)
    assert found.votes == int((first > second).sum())
    assert found.table()[0]["word"] == best


def test_one_class_has_nothing_to_decide(naclip):
    found = explain.words_at(naclip, AT, ["cat"])
    assert found.templates == () and found.votes == 0 and found.label == "cat"


def test_methods_side_by_side():
    truth = np.zeros(PHOTO.shape[:2], np.uint8)
    found = list(explain.by_methods(PHOTO, WORDS, ["clip", "naclip"], "nano", truth))
    assert [one.method for one in found] == ["clip", "naclip"]
    model = ovseg.load("clip", weights="nano")
    model.set_vocabulary(WORDS)
    assert (model.segment(PHOTO).labels == found[0].result.labels).all()
    for one in found:
        errors = explain.error_map(one.result.labels, truth, one.result.names)
        assert one.miou == errors.miou
    picture = explain.draw_methods(PHOTO, found, truth)
    assert picture.dtype == np.uint8 and picture.shape[1] > 4 * PHOTO.shape[1]
    with pytest.raises(ValueError, match="at least one method"):
        explain.draw_methods(PHOTO, [])


def test_a_trained_decoder_has_heat_maps_and_no_patches_to_look_at(build):  # noqa: F811
    model = build().eval()
    (image,) = photos((70, 90))
    record = model.encode([model.prepare(image, (70, 90))])[0]
    one = ovseg.EncodedImage(model, None, record, image.permute(1, 2, 0).numpy(), model.watch())
    found = explain.heat_maps(one, classes=["grass", "cat"], max_side=30)
    evidence = model.evidence(model.score_map(record, model.wording()))
    np.testing.assert_allclose(found.maps, evidence.probabilities()[[2, 0]][:, ::3, ::3], atol=1e-6)
    for function in (explain.attention_at, explain.words_at):
        with pytest.raises(ValueError, match="DecoderSegmentor decides by a trained decoder"):
            function(one, (5, 5))
    with pytest.raises(ValueError, match="trained decoder"):
        explain.embedding_colours(one)


@pytest.mark.parametrize("decoder", [mask_parts.fcclip(), mask_parts.maft()], ids=["fcclip", "maft_plus"])
def test_mask_transformers_have_heat_maps_and_no_patches_to_look_at(build_mask, decoder):
    model = build_mask(decoder)
    image = mask_parts.picture(70, 90)
    record = model.encode([model.prepare(image, (70, 90))])[0]
    one = ovseg.EncodedImage(model, None, record, image.permute(1, 2, 0).numpy(), model.watch())
    for function in (explain.attention_at, explain.words_at):
        with pytest.raises(ValueError, match="MaskSegmentor decides by a trained decoder"):
            function(one, (5, 5))
    with pytest.raises(ValueError, match="trained decoder"):
        explain.embedding_colours(one)
    found = explain.heat_maps(one, classes=["grass", "cat"])
    assert found.maps.shape == (2, 70, 90) and np.isfinite(found.maps).all()
