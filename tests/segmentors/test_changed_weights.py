"""A model whose weights were changed after its first photo gives what a new model with these weights gives."""

import copy

import numpy as np
import pytest
import torch

from ovseg import Segmenter
from ovseg.encoder import WindowBatch
from tests.weight_edits import EDITS

WORDS = ["cat", "sofa; couch", "grass"]
RNG = np.random.default_rng(0)
FAST = ("data_add", "load_state_dict", "changed_copy")  # the parts see all edits in tests of their own
PHOTO = RNG.integers(0, 255, (130, 170, 3), np.uint8)


@pytest.fixture(autouse=True)
def text_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("OVSEG_CACHE", str(tmp_path))


def build() -> Segmenter:
    model = Segmenter("nano", "clearclip", short_side=130)
    model.set_vocabulary(WORDS)
    return model


def scores(model: Segmenter) -> torch.Tensor:
    image = torch.from_numpy(PHOTO).permute(2, 0, 1)
    with torch.no_grad():
        return model.model.score([model.model.prepare(image, PHOTO.shape[:2], image)])[0].block()


def fresh(like: Segmenter) -> torch.Tensor:
    """Scores of a new model with the weights of another and no cache."""
    model = Segmenter("nano", "clearclip", short_side=130)
    model.model.text_encoder._use_cache = False
    model.model.load_state_dict({name: value.clone() for name, value in like.model.state_dict().items()})
    model.set_vocabulary(WORDS)
    return scores(model)


@pytest.mark.parametrize("edit", [e if e in FAST else pytest.param(e, marks=pytest.mark.slow) for e in EDITS])
@pytest.mark.parametrize("part", ["visual", "text"])
def test_every_edit_of_either_tower_counts(edit, part):
    model = build()
    before, described = scores(model), model.model.describe()
    clip = model.model.backbone.clip
    if edit == "changed_copy":
        model.model = copy.deepcopy(model.model)
        clip, edit = model.model.backbone.clip, "data_add"
    EDITS[edit](clip.visual if part == "visual" else clip.transformer)
    after = scores(model)
    assert (after - before).abs().max() > 1e-4
    torch.testing.assert_close(after, fresh(model), rtol=1e-4, atol=1e-5)
    again = model.model.describe()
    assert again["weights_content"] != described["weights_content"]
    # what lies on disk is still that of the packaged weights
    torch.testing.assert_close(scores(build()), before, rtol=0, atol=0)


def test_there_and_back_again():
    """EMA: the averaged weights for an evaluation, then the trained ones again."""
    model = build()
    before = scores(model)
    kept = copy.deepcopy(model.model.state_dict())
    EDITS["data_add"](model.model.backbone.clip)
    assert not torch.allclose(scores(model), before, atol=1e-3)
    model.model.load_state_dict(kept)
    assert torch.equal(scores(model), before)


def test_given_embeddings_stay():
    model = build()
    given = torch.nn.functional.normalize(torch.randn(4, model.model.text.shape[1]), dim=1)
    model.model.set_vocabulary(WORDS, given)
    EDITS["data_add"](model.model.backbone.clip.transformer)
    scores(model)
    assert torch.equal(model.model.text, given)


def test_an_untouched_model_reads_no_weights_again(monkeypatch):
    model = build()
    scores(model)
    from ovseg import content

    def never(*args):
        raise AssertionError("the content of the weights was read")

    monkeypatch.setattr(content, "content_sha256", never)
    monkeypatch.setattr(content, "checksum", never)
    scores(model)


def test_words_set_in_inference_mode_can_be_trained_with():
    with torch.inference_mode():
        model = build()
        scores(model)
    tensors = {**dict(model.model.named_parameters()), **dict(model.model.named_buffers())}
    assert not [name for name, tensor in tensors.items() if tensor.is_inference()]
    visual = model.model.backbone.clip.visual.requires_grad_(True)
    windows = torch.randn(2, 3, 112, 112)
    segmentor = model.model
    segmentor.encoder.score(WindowBatch(windows), segmentor.queries).square().sum().backward()
    assert visual.conv1.weight.grad.abs().max() > 0


def test_given_embeddings_of_inference_mode_can_be_trained_with():
    model = build()
    with torch.inference_mode():
        model.model.set_vocabulary(WORDS, torch.randn(4, model.model.text.shape[1]))
    assert not model.model.text.is_inference() and not model.model.query_to_class.is_inference()
