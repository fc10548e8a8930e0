"""The best few classes of every pixel, streamed, against a sort of everything."""

import pytest
import torch

from ovseg.heads import MaxQueryHead
from ovseg.heads.ranking import RunningTop
from ovseg.scores import RefinedScoreMap, ScoreMap

OWNER = torch.tensor([3, 0, 1, 3, 2, 0, 4, 3])  # a class's queries are not side by side


def scores_at(seed: int = 0) -> ScoreMap:
    cells = torch.rand(len(OWNER), 5, 6, generator=torch.Generator().manual_seed(seed))
    return ScoreMap.from_grid(cells, (70, 90))


@pytest.mark.parametrize("step", [1, 3, 8])
@pytest.mark.parametrize("k", [1, 3, 5])
def test_blocks_of_queries_give_the_ranks_of_all(step, k):
    values = torch.rand(len(OWNER), 20, 30, generator=torch.Generator().manual_seed(1))
    best = RunningTop(k, (20, 30), 5, torch.device("cpu"))
    for start in range(0, len(OWNER), step):
        some = slice(start, start + step)
        best.update(slice(None), slice(None), values[some], OWNER[some])
    merged = torch.stack([values[OWNER == c].amax(0) for c in range(5)])
    want, order = merged.sort(0, descending=True)
    assert torch.equal(best.values, want[:k]) and torch.equal(best.classes.long(), order[:k])


@pytest.mark.parametrize("softmax", [True, False])
@pytest.mark.parametrize("refined", [True, False])
def test_the_head_ranks_probabilities(softmax, refined):
    head, scores = MaxQueryHead(logit_scale=7.0, softmax=softmax), scores_at()
    maps = RefinedScoreMap(scores, lambda s: s, max_values=3 * 70 * 90) if refined else scores
    classes, values = head.top(maps, OWNER, 5, 4)
    want = head.probabilities(scores, OWNER, 5)
    ordered = want.sort(0, descending=True).values[:4]
    torch.testing.assert_close(values, ordered, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(want.gather(0, classes.long()), ordered, atol=1e-6, rtol=1e-5)
    assert torch.equal(classes[0], head(maps, OWNER, 5))


def test_ranks_come_before_thresholds():
    head = MaxQueryHead(logit_scale=7.0, threshold=0.9, background=2, area_threshold=0.1)
    plain = MaxQueryHead(logit_scale=7.0)
    for found, want in zip(head.top(scores_at(), OWNER, 5, 3), plain.top(scores_at(), OWNER, 5, 3), strict=True):
        assert torch.equal(found, want)


def test_a_label_leads_among_equals():
    best = RunningTop(2, (1, 3), 4, torch.device("cpu"))
    best.update(slice(None), slice(None), torch.full((4, 1, 3), 0.5), torch.arange(4))
    labels = torch.tensor([[0, 3, 2]], dtype=torch.int32)
    led = best.led_by(labels)
    assert torch.equal(led[0], labels) and (led[0] != led[1]).all()
