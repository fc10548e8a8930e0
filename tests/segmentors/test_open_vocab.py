"""The segmentor as a whole, with nano's real weights."""

import numpy as np
import pytest
import torch
from mmseg.structures import SegDataSample

from ovseg.apis import Segmenter, available_methods, method_config
from ovseg.registry import MODELS
from ovseg.text import Vocabulary

SIZES = [(96, 150), (150, 96), (224, 224), (1, 1), (37, 300)]
WORDS = ["cat", "dog; puppy", "grass", "brick wall", "car", "tree"]


def photos(seed=0):
    rng = np.random.default_rng(seed)
    small = [rng.integers(0, 256, (4, 5, 3), dtype=np.uint8) for _ in SIZES]
    return [np.kron(s, np.ones((75, 75, 1), np.uint8))[:h, :w] for s, (h, w) in zip(small, SIZES, strict=True)]


def build(method="naclip", **windows):
    model = Segmenter("nano", method, short_side=168)
    model.set_vocabulary(WORDS)
    for key, value in windows.items():
        setattr(model.model.windows, key, value)
    return model


@pytest.mark.parametrize("method", ["clip", "maskclip", "sclip", "clearclip", "naclip"])
def test_every_method_labels_every_pixel_of_photos_of_any_size(method):
    model = build(method)
    for photo, result in zip(photos(), model.segment_batch(photos()), strict=True):
        assert result.labels.shape == photo.shape[:2] and result.labels.dtype == np.uint16
        assert result.labels.max() < len(WORDS) and sum(result.areas().values()) == pytest.approx(1)


@pytest.mark.parametrize("method", ["maskclip", "naclip"])
def test_a_result_does_not_depend_on_batches(method):
    one = [build(method, batch=1).segment(p).labels for p in photos()]
    many = [r.labels for r in build(method, batch=16).segment_batch(photos())]
    for a, b in zip(one, many, strict=True):
        np.testing.assert_array_equal(a, b)


def test_mmengine_entry_gives_data_samples_at_the_original_size():
    model = build().model
    samples = [SegDataSample(metainfo=dict(ori_shape=(50, 80))), SegDataSample(metainfo=dict(ori_shape=(200, 120)))]
    inputs = [torch.randint(0, 256, (3, 112, 180), dtype=torch.uint8) for _ in samples]
    out = model.test_step(dict(inputs=inputs, data_samples=samples))
    assert [tuple(s.pred_sem_seg.data.shape) for s in out] == [(1, 50, 80), (1, 200, 120)]
    assert out[0].pred_sem_seg.data.dtype == torch.int32
    with pytest.raises(ValueError, match="training-free"):
        model(inputs, samples, mode="loss")


def test_synonyms_of_a_class_count_as_one_class():
    model = build("clearclip")
    model.set_vocabulary(["cat", "dog", "grass"])
    single = model.segment(photos()[0]).labels
    model.set_vocabulary(["cat; dog", "grass"])
    np.testing.assert_array_equal(model.segment(photos()[0]).labels, np.where(single == 2, 1, 0))


def test_bf16_agrees_with_fp32_almost_everywhere():
    half = Segmenter("nano", "clearclip", precision="bf16", short_side=168)
    half.set_vocabulary(WORDS)
    full = build("clearclip")
    for photo in photos()[:3]:
        assert (half.segment(photo).labels == full.segment(photo).labels).mean() > 0.9


def test_background_takes_the_uncertain_pixels():
    config = method_config("clearclip", "nano")
    config.model.head.threshold = 1.0
    model = Segmenter(config=config)
    for _ in range(2):  # thresholds come back
        model.set_vocabulary(["cat", "background"])
        assert model.model.head.threshold == 0
        model.set_vocabulary(["cat", "background"], background="background")
        assert (model.segment(photos()[0]).labels == 1).all()
    assert model.vocabulary.background == 1  # CLIP-DINOiser's background detector looks there
    model.set_vocabulary(["cat", "background"])
    model.set_vocabulary(Vocabulary.from_list(["background", "cat"], background=0))
    assert (model.segment(photos()[0]).labels == 0).all()


def test_a_background_without_threshold_is_told():
    model = Segmenter("nano", "clearclip")
    with pytest.warns(UserWarning, match="no threshold"):
        model.set_vocabulary(["cat", "background"], background="background")
    model.set_vocabulary(Vocabulary.from_list(["sky; wall", "cat"], background=0))
    assert model.segment(photos()[0]).names == ("background", "cat")


def test_words_follow_when_clips_weights_are_replaced():
    model = build("clearclip")
    before = model.model.text.clone()
    model.model.follow_weights()
    assert torch.equal(model.model.text, before)
    model.model.backbone.clip.token_embedding.weight.data.mul_(-1)
    model.model.follow_weights()
    assert (model.model.text - before).norm() > 1e-2


def test_methods_on_large_weights_use_their_own_resolution():
    sides = {m: method_config(m, "openai/ViT-B-16").short_side for m in ("maskclip", "sclip", "trident")}
    assert sides == dict(maskclip=448, sclip=336, trident=448)


def test_errors_say_what_to_do():
    model = Segmenter("nano", "clearclip")
    with pytest.raises(ValueError, match="set_vocabulary"):
        model.segment(photos()[0])
    with pytest.raises(ValueError, match="not among the names"):
        model.set_vocabulary(["cat"], background="sky")
    with pytest.raises(ValueError, match="short_side is -5"):
        Segmenter("nano", "clearclip", short_side=-5)
    with pytest.raises(ValueError, match="2 text embeddings for 1 queries"):
        model.model.set_vocabulary(["cat"], embeddings=torch.zeros(2, 4))
    model.set_vocabulary(["cat"])
    with pytest.raises(ValueError, match="0, 4, 3"):
        model.segment(np.zeros((0, 4, 3), np.uint8))
    with pytest.raises(ValueError, match="unknown method 'magic'; there are"):
        method_config("magic")


def test_describe_holds_what_must_travel_with_a_result():
    facts = build("naclip").model.describe()
    for key in (
        "weights",
        "weights_sha256",
        "vocabulary_hash",
        "templates",
        "threshold",
        "crop",
        "stride",
        "precision",
    ):
        assert key in facts
    assert facts["weights"] == "nano" and len(facts["weights_sha256"]) == 64


def test_methods_are_listed_from_the_configs():
    assert {"clip", "maskclip", "sclip", "clearclip", "naclip"} <= set(available_methods())
    assert MODELS.get("OpenVocabSegmentor") is not None


def test_mmengines_habits_are_accepted():
    config = method_config("naclip").model
    habits = dict(train_cfg=dict(), test_cfg=dict(mode="slide"), pretrained=None, init_cfg=None)
    assert MODELS.build(dict(config, vocabulary=None, **habits)).vocabulary is None


@pytest.mark.parametrize("name", ["template", "refiner", "neck"])
def test_unknown_arguments_are_refused_wherever_the_known_ones_are_defined(name):
    with pytest.raises((TypeError, ValueError), match=name):
        MODELS.build(dict(method_config("naclip").model, vocabulary=None, **{name: 1}))
