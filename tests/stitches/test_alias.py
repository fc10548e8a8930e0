"""VIP's sum over the names of a class, and the head for maps of classes."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from ovseg import Segmenter
from ovseg.backbones import DinoTxtBackbone
from ovseg.heads import ClassHead, MaxQueryHead
from ovseg.queries import Queries
from ovseg.scores import ScoreMap
from ovseg.stitches import AliasStitch
from ovseg.text import TextEncoder, Vocabulary
from ovseg.windows import SlidingWindows
from tests.small_guides import small_text_map, use_small_guides
from tests.small_models import images, small_clip


@settings(max_examples=40, deadline=None)
@given(
    names=st.lists(st.integers(0, 3), min_size=1, max_size=9),
    tau=st.floats(0.5, 8),
    temperature=st.floats(0.05, 10),
    seed=st.integers(0, 999),
)
def test_a_class_is_the_weighed_sum_of_its_names(names, tau, temperature, seed):
    g = torch.Generator().manual_seed(seed)
    classes = torch.tensor(names).unique(return_inverse=True)[1]
    count = int(classes.max()) + 1
    text = torch.randn(len(names), 8, generator=g) * 0.3  # of any length
    patches = F.normalize(torch.randn(2, 3, 4, 8, generator=g), dim=-1)
    stitch = AliasStitch(tau, temperature, scale=40.0)
    found = stitch.score({"embeddings": patches}, None, Queries(text, classes, count))
    assert found.shape == (2, count, 3, 4)
    for w in range(2):
        window = F.normalize(patches[w].flatten(0, 1).mean(0), dim=0)
        for c in range(count):
            own = text[classes == c]
            fits = torch.stack([window @ F.normalize(t, dim=0) for t in own]) / temperature
            weights = len(own) * fits.softmax(0)
            logits = torch.stack([40 * (patches[w] @ t) * x for t, x in zip(own, weights, strict=True)])
            want = (tau * logits).logsumexp(0) / tau
            torch.testing.assert_close(found[w, c], want, atol=1e-3, rtol=1e-4)
            if len(own) == 1:
                torch.testing.assert_close(found[w, c], 40 * (patches[w] @ own[0]), atol=1e-4, rtol=1e-4)


def test_the_head_reads_maps_of_classes():
    torch.manual_seed(0)
    scores = ScoreMap.from_grid(torch.randn(3, 5, 6), (40, 50))
    owners = torch.tensor([0, 0, 1, 2, 2, 2])  # names no longer matter
    head, plain, index = ClassHead(threshold=0.5), MaxQueryHead(1.0, 0.5), torch.arange(3)
    assert torch.equal(head(scores, owners, 3), plain(scores, index, 3))
    for name, extra in (("labels_and_confidence", ()), ("top", (2,)), ("probabilities", ())):
        ours, wanted = (getattr(h, name)(scores, i, 3, *extra) for h, i in ((head, owners), (plain, index)))
        for one, other in zip(*((x,) if torch.is_tensor(x) else x for x in (ours, wanted)), strict=True):
            torch.testing.assert_close(one, other)
    some = torch.tensor([2, 0])
    torch.testing.assert_close(head.sampled(scores, owners, some, 4), plain.sampled(scores, index, some, 4))
    with pytest.raises(ValueError, match="one map for each of 2 classes, but there are 3; use a stitch"):
        head(scores, owners, 2)


def test_pixels_that_get_no_class():
    torch.manual_seed(0)
    scores, owners = ScoreMap.from_grid(2 * torch.randn(3, 5, 6), (40, 50)), torch.tensor([0, 0, 1, 2])
    head = ClassHead(threshold=0.6, background=None, unlabelled=True)
    best, label = scores.block().softmax(0).max(0)
    unsure = best < 0.6
    assert unsure.any() and not unsure.all()
    want = label.int().masked_fill(unsure, 3)
    labels, confidence = head.labels_and_confidence(scores, owners, 3)
    assert torch.equal(head(scores, owners, 3), want) and torch.equal(labels, want) and labels.dtype == torch.int32
    torch.testing.assert_close(confidence, best)
    assert torch.equal(head.labels_and_confidence(scores, owners, 3, threshold=False)[0], label.int())
    head.background = 1  # words of one's own that bring a background
    assert torch.equal(head(scores, owners, 3), label.int().masked_fill(unsure, 1))
    head.background, head.threshold = None, 0.0  # or none
    assert torch.equal(head(scores, owners, 3), label.int()) and head.active_background is None
    assert head.describe()["unlabelled"] and "unlabelled" not in ClassHead().describe()
    with pytest.raises(ValueError, match="background is 0, but unlabelled pixels have no class"):
        ClassHead(threshold=0.6, unlabelled=True)


def test_words_keep_the_length_of_their_mean(tmp_path):
    import open_clip

    clip = small_clip()
    words = Vocabulary.of(["cat", "dog"])
    unit, kept = (
        TextEncoder(clip, open_clip.tokenize, "simple", tmp_path, keep_length=keep).encode(words)
        for keep in (False, True)
    )
    prompts = TextEncoder(clip, open_clip.tokenize, "simple", tmp_path).templates.prompts("dog")
    rows = F.normalize(clip.encode_text(open_clip.tokenize(prompts)), dim=-1)
    torch.testing.assert_close(kept[1], rows.mean(0), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(unit, F.normalize(kept, dim=-1), atol=1e-5, rtol=1e-4)
    assert (kept.norm(dim=-1) < 0.9999).all(), "templates differ"
    patch = F.normalize(torch.randn(kept.shape[1]), dim=0)
    torch.testing.assert_close(kept[1] @ patch, (rows @ patch).mean(), atol=1e-5, rtol=1e-4)
    for other in (dict(templates_apart=True), dict(text_map=small_text_map())):
        with pytest.raises(ValueError, match="keep_length is about the mean"):
            TextEncoder(clip, open_clip.tokenize, keep_length=True, **other)


def test_windows_are_padded_with_clips_colour():
    windows = SlidingWindows(crop=20, stride=10, pad_multiple=16, pad_value="clip")
    mean, std = torch.tensor([100.0, 110.0, 120.0]).view(3, 1, 1), torch.tensor([50.0, 60.0, 70.0]).view(3, 1, 1)
    image = images(3, 20, 20)
    cut = windows.cut(image, windows.layout(20, 20, 16), mean, std)
    clip = 255 * torch.tensor([0.48145466, 0.4578275, 0.40821073])
    torch.testing.assert_close((cut * std + mean)[0, :, 0, 0], clip, atol=1e-3, rtol=1e-5)
    assert torch.equal(cut[0, :, 6:26, 6:26], image)


def test_the_method_as_a_whole(monkeypatch):
    use_small_guides(monkeypatch)
    model = Segmenter("dinotxt/vitl16", "vip", short_side=64)
    assert isinstance(model.model.backbone, DinoTxtBackbone)
    model.set_vocabulary(["background", "cat; kitten", "dog"], background="background")
    model.model.windows.crop, model.model.windows.stride = 56, 28
    photo = model.model.prepare(torch.randint(0, 256, (3, 64, 80), dtype=torch.uint8), (64, 80))
    (scores,) = model.model.score([photo])
    assert scores.num_queries == 3, "a map for each class"
    values = scores.block().softmax(0)
    (labels,) = model.model.predict([photo])
    assert model.model.head.threshold == 0.28
    want = values.argmax(0).masked_fill(values.amax(0) < 0.28, 0)
    assert (labels == want).float().mean() > 0.999
    facts = model.model.describe()
    assert facts["keep_length"] is True and "AliasStitch(tau=3.0, temperature=0.3" in facts["stitch"]
    for name in ("tau", "temperature", "scale"):
        with pytest.raises(ValueError, match=f"{name} is 0; it must be positive"):
            AliasStitch(**{name: 0})
