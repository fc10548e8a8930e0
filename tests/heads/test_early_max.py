"""LPOSS's head: maximum over words before the last resize."""

import pytest
import torch
import torch.nn.functional as F

from ovseg.heads import EarlyMaxHead, Evidence, MaxQueryHead
from ovseg.scores import RefinedScoreMap, ResizedScoreMap, ScoreMap

Q2C = torch.tensor([0, 0, 0, 1, 2, 2])
SIZE = (80, 66)


@pytest.fixture(params=[False, True], ids=["plain", "refined"])
def scores(request):
    torch.manual_seed(0)
    base = ScoreMap.from_grid(torch.randn(6, 5, 6), (40, 50))
    return ResizedScoreMap(RefinedScoreMap(base, lambda m: -m) if request.param else base, SIZE)


def merged(scores):
    full = scores.base.block()
    classes = torch.stack([full[Q2C == c].amax(0) for c in range(3)])
    return F.interpolate(classes[None], size=SIZE, mode="bilinear", align_corners=False)[0]


def test_everything_the_head_gives(scores):
    head, want = EarlyMaxHead(), merged(scores)
    evidence = Evidence(scores, head, Q2C, 3)
    labels = evidence.labels()
    assert labels.dtype == torch.int32 and (labels == want.argmax(0)).float().mean() > 0.999
    torch.testing.assert_close(evidence.probabilities(), want, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(evidence.of_classes([2, 0]), want[[2, 0]], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(evidence.best_at((7, 9)).shape, torch.Size((7, 9)))
    found, confidence = head.labels_and_confidence(scores, Q2C, 3)
    assert torch.equal(found, labels)
    torch.testing.assert_close(confidence, want.amax(0), atol=1e-5, rtol=1e-5)
    classes, values = evidence.top(2)
    torch.testing.assert_close(values, want.topk(2, dim=0).values, atol=1e-5, rtol=1e-5)
    assert torch.equal(classes[0], labels)


def test_the_order_matters(scores):
    late = MaxQueryHead(softmax=False)(scores, Q2C, 3)
    assert (late != EarlyMaxHead()(scores, Q2C, 3)).any()


def test_other_stitches_are_told():
    with pytest.raises(ValueError, match="GraphStitch"):
        EarlyMaxHead()(ScoreMap.from_grid(torch.randn(6, 2, 2), (9, 9)), Q2C, 3)
