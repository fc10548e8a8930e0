"""CLIPtrase, ITACLIP, CLIPer and the text-based decomposition as whole methods, on nano."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from ovseg.apis import Segmenter
from ovseg.encoder import WindowBatch
from ovseg.stitches.affinity import LayerwiseStitch

WORDS = ["cat", "dog; puppy", "grass", "brick wall", "car", "tree"]


def photo(height=150, width=224, seed=0):
    small = np.random.default_rng(seed).integers(0, 256, (4, 5, 3), dtype=np.uint8)
    return np.kron(small, np.ones((75, 75, 1), np.uint8))[:height, :width]


def build(method, **options):
    model = Segmenter("nano", method, short_side=112, **options)
    model.set_vocabulary(WORDS)
    return model


@pytest.mark.parametrize("method", ["cliptrase", "itaclip", "cliper", "decomposition"])
def test_every_pixel_of_photos_of_any_size_gets_a_class(method):
    model = build(method)
    model.model.refiners = []  # PAMR has tests of its own
    for size in ((96, 150), (150, 96), (1, 1)):
        result = model.segment(photo(*size))
        assert result.labels.shape == size and result.labels.max() < len(WORDS)


@pytest.mark.parametrize("method", ["cliptrase", "cliper", "decomposition"])
def test_windows_are_refused_where_the_photo_is_seen_as_a_whole(method):
    model = build(method)
    model.model.windows.crop, model.model.windows.stride = 64, 32
    if method == "decomposition":  # scores are per window: windows are fine
        assert model.segment(photo()).labels.shape == (150, 224)
    else:
        with pytest.raises(ValueError, match="crop=None"):
            model.segment(photo())


def test_two_photos_at_once_are_as_one_by_one():
    for method in ("cliptrase", "cliper"):
        model = build(method)
        photos = [photo(seed=1), photo(seed=2)]
        together = [r.labels for r in model.segment_batch(photos)]
        for one, many in zip((model.segment(p).labels for p in photos), together, strict=True):
            np.testing.assert_array_equal(one, many)


def test_the_class_token_weights_words():
    model = build("cliptrase").model
    windows = torch.randn(1, 3, 112, 112, generator=torch.Generator().manual_seed(0))
    plain = scores_of(model, windows)
    model.stitch.class_token = True
    weighted = scores_of(model, windows)
    ratio = (weighted / plain).flatten(2)
    torch.testing.assert_close(ratio, ratio[:, :, :1].expand_as(ratio), atol=1e-4, rtol=1e-3)
    assert ratio[0, :, 0].std() > 0


def scores_of(model, windows, stitch=None):
    """Scores of windows on their patch grids."""
    stitch = stitch or model.stitch
    return stitch.score(stitch.encode(WindowBatch(windows), model.encoder), model.encoder, model.queries)


def layerwise_by_the_book(model, image, stitch):
    """CLIPer's scores with loops over windows, patches and classes."""
    text = torch.cat([model.text, F.normalize(model.text.mean(0), dim=0)[None]])
    count = len(model.text)

    def encode(window):
        tokens = model.encoder.tokens(WindowBatch(window[None]))
        features = F.normalize(model.backbone.project(tokens).patches, dim=-1)
        return stitch.logit_scale * features @ text.T, tokens.affinity[0, 1:, 1:]

    logits, affinity = encode(image)
    probabilities = logits.softmax(-1)
    gh, gw = image.shape[1] // 16, image.shape[2] // 16
    if stitch.slide:
        crop, stride = stitch.slide.crop // 16, stitch.slide.stride // 16
        total, visits = torch.zeros_like(logits), torch.zeros(gh, gw)
        pairs, meetings = torch.zeros(gh * gw, gh * gw), torch.zeros(gh * gw, gh * gw)
        for x in [*range(0, gw - crop, stride), gw - crop]:
            part, between = encode(image[:, :, 16 * x : 16 * (x + crop)])
            cells = [r * gw + x + c for r in range(gh) for c in range(crop)]
            for i, cell in enumerate(cells):
                total[:, cell] += part[:, i]
                visits.view(-1)[cell] += 1
                for j, other in enumerate(cells):
                    pairs[cell, other] += between[i, j]
                    meetings[cell, other] += 1
        mean = pairs / meetings.clamp(min=1)
        mean = mean / mean.sum(-1, keepdim=True)
        slid = torch.einsum("ij,sik->sjk", mean, total / visits.view(1, -1, 1))
        probabilities = 0.5 * probabilities + 0.5 * slid.softmax(-1)
    probabilities = probabilities[..., :count]
    for c in range(count):
        last = probabilities[-1, :, c]
        last[last < stitch.threshold * last.max()] = 0
    seg = torch.einsum("ij,ik->jk", affinity, probabilities[-1]) + probabilities.mean(0)
    return seg.T.view(count, gh, gw)


@pytest.mark.parametrize("slide", [None, 64])
def test_layerwise_scores(slide):
    model = build("cliper").model
    model.head.background = None
    stitch = LayerwiseStitch(threshold=0.4, slide=slide, stride=32)
    image = torch.randn(3, 64, 144, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        got = scores_of(model, image[None], stitch)[0]
        want = layerwise_by_the_book(model, image, stitch)
    torch.testing.assert_close(got, want, atol=1e-4, rtol=1e-3)


def test_background_words_and_distractors_only_compete():
    model = build("cliper").model
    model.set_vocabulary(["sky; wall", "cat", "dog"])
    model.head.threshold, model.head.background = 0.6, 0  # nano's scenes have no background
    text, foreground = LayerwiseStitch(distractors=["car"]).competitors(model.queries)
    assert foreground == 2 and len(text) == 2 + 2 + 1 + 1
    torch.testing.assert_close(text[:2], model.text[2:])
    torch.testing.assert_close(text[-1].norm(), torch.tensor(1.0))


def test_sliding_windows_must_lie_on_patches():
    model = build("cliper").model
    stitch = LayerwiseStitch(slide=64, stride=24)
    with pytest.raises(ValueError, match="patches"):
        stitch.encode(WindowBatch(torch.zeros(1, 3, 64, 144)), model.encoder)


def test_decomposed_scores_and_the_rest_make_a_cosine():
    """The heat maps of all layers plus what has no place sum to the photo's own cosine."""
    from ovseg.attention import decompose

    model = build("decomposition").model
    model.attention.layers, model.attention.needs_inputs = 6, tuple(range(-6, 0))
    windows = torch.randn(1, 3, 112, 112, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        scores = scores_of(model, windows)
        parts = decompose(model.backbone.tower, windows, model.backbone.pos_embed)
        rest = parts.total() - parts.attention[:, :, :, 1:].sum((1, 2, 3))
        length = parts.embedding.norm(dim=-1)
        cosine = F.normalize(parts.embedding, dim=-1) @ model.text.T
        torch.testing.assert_close(
            scores.sum((2, 3)) + rest @ model.text.T / length[:, None], cosine, atol=1e-4, rtol=1e-3
        )
