"""The streamed head against softmax, maximum and argmax written out."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ovseg.heads.max_query import MaxQueryHead
from ovseg.scores import RefinedScoreMap, ScoreMap


def plain(scores, q2c, num_classes, head):
    p = (scores * head.logit_scale).softmax(0) if head.softmax else scores
    merged = torch.stack([p[q2c == c].amax(0) for c in range(num_classes)])
    if head.area_threshold:
        counts = torch.bincount(merged.argmax(0).flatten(), minlength=num_classes)
        for c in range(1, num_classes):
            if not counts[c] > head.area_threshold * counts[1:].sum():
                merged[c] = 0
    confidence, labels = merged.max(0)
    labels[confidence < head.threshold] = head.background or 0
    return labels.int(), confidence, merged


@settings(max_examples=30, deadline=None)
@given(
    classes=st.integers(1, 9),
    extra=st.integers(0, 5),
    threshold=st.sampled_from([0.0, 0.3, 1.0]),
    area=st.sampled_from([0.0, 0.1, 0.3]),
    softmax=st.booleans(),
    by_query=st.booleans(),
    seed=st.integers(0, 2**16),
)
def test_head_equals_the_plain_form(classes, extra, threshold, area, softmax, by_query, seed):
    torch.manual_seed(seed)
    q2c = torch.cat([torch.arange(classes), torch.randint(classes, (extra,))])
    cells = torch.rand(len(q2c), 5, 6)
    scores = ScoreMap.from_grid(cells, (70, 37))
    if by_query:
        scores = RefinedScoreMap(scores, lambda s: s, max_values=2 * 70 * 37)
    head = MaxQueryHead(logit_scale=7, threshold=threshold, area_threshold=area, softmax=softmax)
    want, want_confidence, merged = plain(scores.block(), q2c, classes, head)
    got, confidence = head.labels_and_confidence(scores, q2c, classes)
    torch.testing.assert_close(confidence, want_confidence, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(head.probabilities(scores, q2c, classes), merged, atol=1e-5, rtol=1e-4)
    # where the two best classes or the threshold are closer than rounding, either answer is right
    top = merged.topk(min(2, classes), dim=0).values
    clear = (top[0] - top[-1] > 1e-5) | (classes == 1)
    clear &= (top[0] - threshold).abs() > 1e-5
    assert torch.equal(got[clear], want[clear])
    fused = head(scores, q2c, classes)  # a plain ScoreMap goes through the fused operator
    assert fused.dtype == torch.int32 and torch.equal(fused[clear], want[clear])


@pytest.mark.parametrize("softmax", [True, False])
def test_a_threshold_within_reach_leaves_the_best_of_the_photo(softmax):
    cells = torch.rand(3, 4, 4) * 0.1
    cells[2, 1, 2] = 0.5
    scores, q2c = ScoreMap.from_grid(cells, (8, 8)), torch.arange(3)
    head = MaxQueryHead(logit_scale=2, threshold=0.9, softmax=softmax, within_reach=True)
    labels, confidence = head.labels_and_confidence(scores, q2c, 3)
    assert torch.equal(labels, torch.where(confidence < confidence.max(), 0, 2)) and (labels == 2).any()
    assert torch.equal(head(scores, q2c, 3), labels)
    assert not MaxQueryHead(logit_scale=2, threshold=0.9, softmax=softmax)(scores, q2c, 3).any()
    low = MaxQueryHead(logit_scale=2, threshold=0.05, softmax=softmax, within_reach=True)
    assert torch.equal(
        low(scores, q2c, 3), MaxQueryHead(logit_scale=2, threshold=0.05, softmax=softmax)(scores, q2c, 3)
    )


def test_many_classes_need_no_full_map():
    cells = torch.randn(847, 8, 16)
    labels = MaxQueryHead(logit_scale=100)(ScoreMap.from_grid(cells, (64, 128)), torch.arange(847), 847)
    want = torch.nn.functional.interpolate(cells[None], size=(64, 128), mode="bilinear")[0].argmax(0)
    assert (labels == want).float().mean() > 0.9999 and labels.dtype == torch.int32 and labels.max() > 255


@pytest.mark.parametrize("kwargs", [dict(logit_scale=0), dict(threshold=2), dict(threshold=0.1, background=None)])
def test_senseless_heads_are_refused(kwargs):
    with pytest.raises(ValueError):
        MaxQueryHead(**kwargs)
